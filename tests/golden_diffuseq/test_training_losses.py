"""DiffuSeq's training loss and its gradients, with the original's recorded noise."""

import pytest
from torch.testing import assert_close

from dlkit.teachers._base import FitBatch
from dlkit.teachers.diffuseq import Diffuseq, official_state
from golden_arrays import arrays, meta, network, tolerance

CASE = "training_losses"
TERMS = {"mse": "mse", "decoder_nll": "decoder_nll", "tT": "tT_loss"}


@pytest.fixture(scope="module")
def golden() -> dict:
    return arrays(CASE)


def batch(golden: dict, schedule) -> FitBatch:
    return FitBatch(
        ids=golden["input_ids"],
        mask=golden["input_mask"].bool(),
        t=schedule.time_of(golden["t"]),
        eps_0=golden["noise_x0"],
        eps_t=golden["noise_xt"],
    )


def test_terms_of_every_sample(golden: dict) -> None:
    denoiser, close = network(), tolerance(CASE)
    seen = []
    denoiser.backbone.register_forward_hook(lambda _m, args, out: seen.append((*args[:2], out[0])))
    terms = Diffuseq().losses(denoiser, batch(golden, denoiser.process.noise_schedule))
    (x_t, time, x0), *more = seen
    assert not more
    assert_close(x_t, golden["x_t"], **close)
    assert_close(time.float(), golden["network_time"], **close)
    assert_close(x0, golden["model_output"], **close)
    assert terms.keys() == TERMS.keys()
    for ours, theirs in TERMS.items():
        assert_close(terms[ours], golden[theirs], **close)
    assert_close(sum(terms.values()), golden["loss"], **close)


def test_gradients_of_the_mean_loss(golden: dict) -> None:
    denoiser, limits = network(), meta(CASE)["tolerance"]
    terms = Diffuseq().losses(denoiser, batch(golden, denoiser.process.noise_schedule))
    sum(terms.values()).mean().backward()  # type: ignore[union-attr]
    wanted = arrays(CASE, "grads")
    full = {name.partition(".")[2]: p for name, p in denoiser.named_parameters()}
    assert {f"grad.{name}" for name in full} == wanted.keys()
    assert official_state(denoiser).keys() - full.keys() == {"lm_head.weight", "position_ids"}
    for name, parameter in full.items():
        assert_close(
            parameter.grad, wanted[f"grad.{name}"], rtol=limits["grad_rtol"], atol=limits["grad_atol"], msg=name
        )
