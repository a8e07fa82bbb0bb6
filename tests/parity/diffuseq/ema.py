"""The moving average of weights, as the original's trainer keeps it: one decay from the first step on."""

import torch
from torch import nn

from dlkit.training.ema import Ema
from parity.cases import Case


def check(case: Case) -> None:
    golden = case.arrays()
    names = sorted(name.removeprefix("ema_start") for name in golden if name.startswith("ema_start"))
    assert golden.keys() == {f"{kind}{name}" for kind in ("ema_start", "param", "ema") for name in names}
    module = nn.ParameterDict({name: golden[f"ema_start{name}"].clone() for name in names})
    ema = Ema(module, case.config["rate"], warmup=False)
    for step in range(case.config["steps"]):
        with torch.no_grad():
            for name, parameter in module.items():
                parameter.copy_(golden[f"param{name}"][step])
        ema.tick(module)
        for name in names:
            case.close(ema.state()[name], golden[f"ema{name}"][step], f"ema{name} after step {step}")
    assert {len(golden[f"ema{name}"]) for name in names} == {case.config["steps"]}
