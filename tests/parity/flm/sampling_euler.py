"""FLM's own sampler: times, levels, the state and the prediction at every step, and the tokens."""

import torch

from dlkit.decoders.nearest import Nearest
from dlkit.diffusion.condition import Condition
from dlkit.samplers.euler import Euler
from parity.cases import Case
from parity.every_array import every_array
from parity.flm_network import denoiser, times


@torch.no_grad()
def check(case: Case) -> None:
    flow, steps, seen = denoiser(case), case.config["steps"], []
    with every_array(case, "data", "probs") as golden:
        start = golden["z_init"]
        mask = torch.ones(start.shape[:2], dtype=torch.bool)
        found = Euler(steps=steps).sample(
            flow, Condition(None, mask), lambda k: start, lambda k, t, x, x0: seen.append((t, x, x0))
        )
        called = torch.tensor([t for t, _, _ in seen] + [0.0], dtype=torch.float64)
        case.close(called, times(golden["tau"]), "times")
        case.close(flow.process.noise_schedule.alpha(called).float(), golden["c"], "c")
        case.close(torch.stack([x for _, x, _ in seen]), golden["states"], "states")
        case.close(torch.stack([x0 for _, _, x0 in seen]), golden["probs"], "probs")
        case.close(found, golden["final"], "final")
        assert Nearest().decode(found, flow.space).equal(golden["tokens"])
