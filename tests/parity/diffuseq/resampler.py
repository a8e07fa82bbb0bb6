"""The original's distributions of training times: by recent losses, in two halves, and uniform."""

import re

import numpy as np
import torch
from torch import Tensor

from dlkit.diffusion.time_samplers import registry
from dlkit.diffusion.time_samplers.loss_second_moment import LossHistory, LossSecondMoment
from dlkit.part import from_spec
from dlkit.schedules.sqrt import SqrtSchedule
from parity.cases import Case

CHECKED = {
    *(f"phase{k}.{name}" for k in (1, 2, 3) for name in ("t", "loss", "weights")),
    *("phase1.counts", "phase3.history"),
    *("sample.indices", "sample.weights", "fixstep.weights", "uniform.weights"),
}


def check(case: Case) -> None:
    golden, config = case.arrays(), case.config
    assert golden.keys() == CHECKED
    schedule = SqrtSchedule(steps=config["T"])
    history = LossSecondMoment(history=config["history_per_term"], uniform=config["uniform_prob"]).start(schedule)
    for phase in ("phase1", "phase2", "phase3"):
        history.observe(schedule.time_of(golden[f"{phase}.t"]), golden[f"{phase}.loss"])
        case.close(history.probabilities(), normalised(golden[f"{phase}.weights"]), f"{phase}.weights")
        if phase == "phase1":
            assert torch.equal(history.counts, golden["phase1.counts"])
    case.close(history.losses, golden["phase3.history"], "phase3.history")
    check_draws(case, history, golden)
    halves = from_spec(registry, "low_noise_twice").start(schedule)
    case.close(halves.probabilities(), normalised(golden["fixstep.weights"]), "fixstep.weights")
    check_uniform(case, schedule, golden["uniform.weights"])


def check_draws(case: Case, history: LossHistory, golden: dict[str, Tensor]) -> None:
    """Each recorded time has the recorded weight, and so do numpy's uniforms if the case names them."""
    index, p = golden["sample.indices"], history.probabilities()
    uniforms = [p.cumsum(0)[index] - p[index] / 2]
    meaning = case.meta["files"]["data.safetensors"]["sample.indices"]["meaning"]
    uniforms += [recorded_uniforms(int(seed), len(index)) for seed in re.findall(r"random\.seed\((\d+)\)", meaning)]
    for u in uniforms:
        t, weight = history.draw(u)
        assert torch.equal(t, history.schedule.time_of(index))
        case.close(weight.float(), golden["sample.weights"], "sample.weights")


def recorded_uniforms(seed: int, count: int) -> Tensor:
    """What numpy's ``choice`` draws from."""
    return torch.from_numpy(np.random.RandomState(seed).random_sample(count))


def check_uniform(case: Case, schedule: SqrtSchedule, weights: Tensor) -> None:
    """Evenly spread uniforms fall on every time equally often, and no loss counts more than another."""
    each = 10
    u = (torch.arange(each * len(weights), dtype=torch.float64) + 0.5) / (each * len(weights))
    t, weight = from_spec(registry, "uniform").start(schedule).draw(u)
    times, counts = t.unique(return_counts=True)
    assert torch.equal(times, schedule.time_of(torch.arange(len(weights))))
    case.close(normalised(counts.double()), normalised(weights), "uniform.weights")
    assert torch.equal(weight, torch.ones_like(weight))


def normalised(weights: Tensor) -> Tensor:
    """The original samples in proportion to its weights, whatever their sum."""
    return weights / weights.sum()
