"""One DDIM step from t to t - 1 with several eta, and a step of the reverse ODE to t + 1."""

import torch

from dlkit.diffusion.condition import Condition
from dlkit.samplers._base import Step
from dlkit.samplers.ddim import Ddim
from parity.cases import Case
from parity.diffuseq_network import network
from parity.diffuseq_sampling import schedule_of
from parity.every_array import every_array


@torch.no_grad()
def check(case: Case) -> None:
    denoiser = network(case)
    process, schedule = denoiser.process, schedule_of(denoiser)
    with every_array(case) as golden:
        x_t, index, noise = golden["x_t"], golden["t"], golden["noise"]
        cond = Condition(golden["x_source"], golden["input_mask"].bool())
        t, s, up = (schedule.time_of(index + move) for move in (0, -1, 1))
        x0 = denoiser.predict(x_t, t, None).x0
        case.close(x0, golden["pred_xstart"], "pred_xstart")
        etas = [name.removesuffix(".sample") for name in golden if name.startswith("eta")]
        assert etas
        for eta in etas:
            x_s = Ddim(eta=float(eta[3:])).step(process, Step(x_t, x0, t, s, lambda _: noise))
            case.close(cond.apply(x_s), golden[f"{eta}.sample"], eta)
        rows = slice(len(index) - len(golden["reverse.sample"]), None)  # the first is at T - 1, with nothing above it
        reverse = process.ddim(x_t[rows], x0[rows], t[rows], up[rows])
        case.close(reverse, golden["reverse.sample"], "reverse")
