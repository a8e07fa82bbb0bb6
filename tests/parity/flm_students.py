"""The students of FLM's first release, and the states that their recorded losses and samples are made of."""

from typing import Any

import torch
from torch import Tensor

from dlkit.backbones.residual import ResidualBackbone
from dlkit.decoders.nearest import Nearest
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.objectives._trajectory import Trajectory, Trip, Way
from dlkit.samplers.flow_map import FlowMapSampler
from dlkit.training.turns import Networks, Turn
from parity.cases import Case
from parity.every_array import every_array
from parity.flm_network import denoiser, network, times


def residual_student(case: Case) -> Denoiser:
    """The first stage's: the flow model and a residual."""
    flow = denoiser(case)
    both = ResidualBackbone(network(case), network(case, "flm_distill")).eval()
    return Denoiser(flow.space, flow.process, both, flow.prediction)


def free(ids_or_states: Tensor) -> Condition:
    return Condition(None, torch.ones(ids_or_states.shape[:2], dtype=torch.bool))


def recorded_trip(case: Case, golden: dict[str, Tensor], flow: Denoiser, objective: Trajectory) -> Trip:
    """Jumps from the recorded draws, which are the objective's in another guise; levels and states are compared."""
    process, schedule = flow.process, flow.process.noise_schedule
    draws = drawn(golden)
    way = objective.way(lambda name: draws[name], schedule, 1.0)
    assert objective.boundary == 1 / case.config["boundary_prob"]  # type: ignore[attr-defined]
    for name, time in (("s", way.begin), ("t", way.end)):
        case.close((1.0 - time).float(), golden[name], name)
    middle = (way.begin + way.end) / 2
    for name, time in (("c_s", way.begin), ("c_u", middle), ("c_t", way.end)):
        case.close(schedule.alpha(time).float(), golden[name], name)
    cond, x0 = free(golden["x0"]), flow.space.embed(golden["x0"])
    x_s = process.q_sample(x0, way.begin, golden["noise"])
    case.close(x_s, golden["x_s"], "x_s")
    exact = Way(times(golden["s"]), middle, times(golden["t"]))
    return Trip(x0, golden["x_s"], exact.begin, cond, way=Way(exact.begin, way.middle, exact.end))


def drawn(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    """The uniforms that the recorded times came from; in FLM's time a jump begins at s = u (1 - d)."""
    s, d, whole = golden["s"].double(), golden["d"].double(), golden["boundary"]
    left = torch.where(whole, 1.0, 1.0 - d)
    begin = torch.where(whole, 0.5, 1.0 - s / left)
    return {
        "length": torch.where(whole, 0.5, d),
        "begin": begin,
        "boundary": torch.where(whole, 0.0, 1.0),
        "middle": torch.full_like(s, 0.5),
    }


def turn(teacher: Denoiser, student: Denoiser, **more: Any) -> Turn:
    return Turn(Networks(teacher.requires_grad_(False), student, **more), None, critic=False)


@torch.no_grad()
def check_sampling(case: Case, student: Denoiser) -> None:
    """Times, levels, the state at every step, and the tokens."""
    steps, seen = case.config["steps"], []
    with every_array(case) as golden:
        start = golden["z_init"]
        found = FlowMapSampler(steps=steps).sample(
            student, free(start), lambda k: start, lambda k, t, x, x0: seen.append((t, x))
        )
        called = torch.tensor([t for t, _ in seen] + [0.0], dtype=torch.float64)
        case.close((1.0 - called).float(), golden["tau"], "tau")
        case.close(student.process.noise_schedule.alpha(called).float(), golden["c"], "c")
        case.close(torch.stack([x for _, x in seen]), golden["states"], "states")
        case.close(found, golden["final"], "final")
        assert Nearest().decode(found, student.space).equal(golden["tokens"])
