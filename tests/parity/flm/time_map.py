"""tau(c) and its inverse for several numbers of tokens."""

import torch

from dlkit.schedules.token_accuracy import TokenAccuracySchedule
from parity.cases import Case
from parity.every_array import every_array
from parity.flm_network import times


def check(case: Case) -> None:
    with every_array(case) as golden:
        c, tau = golden["c_grid"], golden["tau_grid"]
        for tokens in case.config["K"]:
            schedule, prefix = TokenAccuracySchedule(vocab_size=tokens), f"K{tokens}."
            case.close(schedule.tau(c), golden[f"{prefix}tau_exact"], f"{prefix}tau", prefix="exact_integral_")
            case.close(schedule.tau(c), golden[f"{prefix}tau_spline"], f"{prefix}tau", prefix="spline_")
            ours = schedule.tau(schedule.alpha(times(tau)))  # where tau hardly rises, c says nothing
            for name in ("c_spline", "c_of_tau_f32"):
                theirs = schedule.tau(golden[f"{prefix}{name}"])
                case.close(
                    ours.to(golden[f"{prefix}{name}"]), theirs.to(golden[f"{prefix}{name}"]), name, prefix="spline_"
                )
            case.close(ours, tau, f"{prefix}tau and back", prefix="spline_")
            table = schedule.tau(torch.linspace(0, 1, case.config["table_points"], dtype=torch.float64))
            assert len(table.unique()) == golden[f"{prefix}unique_table_points"], f"{prefix}rows where tau rises"
