"""Fitting a teacher."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import tiny
from dlkit.diffusion.time_samplers.loss_second_moment import LossHistory
from dlkit.errors import UserError
from dlkit.generator import load_teacher
from dlkit.randomness import Stream
from dlkit.recipe import Recipe
from dlkit.training.folder import read_log


def test_the_loss_falls(data: Path, tmp_path: Path) -> None:
    """From about 3.2, the error of a fresh network, in 60 steps."""
    tiny.run_fit(data, tmp_path / "fit", fit={"steps": 60, "batch_size": 16, "optimizer": {"lr": 1e-2}})
    losses = [line["loss"] for line in read_log(tmp_path / "fit" / "log.jsonl") if line["kind"] == "fit"]
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_the_same_seed_gives_the_same_teacher_and_another_seed_another(data: Path, tmp_path: Path) -> None:
    first, again, other = (
        tiny.weights(tiny.run_fit(data, tmp_path / str(k), seed=seed)) for k, seed in enumerate((0, 0, 1))
    )
    assert first == again
    assert first != other


def gradients(data: Path, out: Path, **fit: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    found: dict[str, Tensor] = {}

    def watch(optimizer: torch.optim.Optimizer) -> None:
        found.update({name: p.grad.clone() for name, p in fitter.denoiser.named_parameters() if p.grad is not None})

    fitter = tiny.fitter(data, out, tiny.WatchedEngine(watch), fit=fit)
    return found, fitter.step(0)


@pytest.mark.parametrize("times", ["uniform", "low_noise_twice"])
@pytest.mark.parametrize("microbatch", [1, 2, 3, 8, 100])
def test_microbatches_give_the_same_gradient_and_log(microbatch: int, times: str, data: Path, tmp_path: Path) -> None:
    whole, values = gradients(data, tmp_path / "whole", time_sampler=times)
    pieces, same_values = gradients(data, tmp_path / "pieces", time_sampler=times, microbatch=microbatch)
    assert whole.keys() == pieces.keys()
    for name, gradient in whole.items():
        assert_close(pieces[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    numbers, same_numbers = ({name: float(v) for name, v in each.items()} for each in (values, same_values))
    assert same_numbers == pytest.approx(numbers, rel=1e-4)


def test_each_loss_has_the_weight_of_its_time(data: Path, tmp_path: Path) -> None:
    found, values = gradients(data, tmp_path / "first", time_sampler="low_noise_twice")
    fitter = tiny.fitter(data, tmp_path / "second", fit={"time_sampler": "low_noise_twice"})
    draw = fitter.corpus.draw(8, 0, 0, fitter.engine.device)
    t, weight = fitter.times.draw(Stream(0, "fit/time", 0).uniform(draw.index))
    assert weight.unique().tolist() == pytest.approx([0.75, 1.5])
    (batch,) = fitter.microbatches(draw, t, torch.ones_like(t), 0)
    terms = fitter.architecture.family.losses(fitter.denoiser, batch)
    loss = sum(weight[k] * sum(term[k] for term in terms.values()) for k in range(8)) / 8
    assert float(values["loss"]) == pytest.approx(float(loss.detach()), rel=1e-6)
    loss.backward()
    for name, parameter in fitter.denoiser.named_parameters():
        assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_times_follow_the_losses_seen(data: Path, tmp_path: Path) -> None:
    """The history holds the bare losses, and the times of an update depend on those before it."""
    model = {"process": {"name": "gaussian", "schedule": {"name": "sqrt", "steps": 3}}}
    times = {"name": "loss_second_moment", "history": 2}
    fitter = tiny.fitter(data, tmp_path / "fit", model=model, fit={"time_sampler": times})
    assert isinstance(fitter.times, LossHistory)
    first = fitter.times.probabilities()
    values = [fitter.step(step) for step in range(3)]
    assert fitter.times.counts.tolist() == [2] * 3
    assert not torch.equal(fitter.times.probabilities(), first)
    assert fitter.times.losses.min() > 0
    for name in ("loss", "mse", "decoder_nll", "tT"):
        assert torch.isfinite(values[-1][name])
    assert float(values[-1]["loss"]) == pytest.approx(sum(float(values[-1][n]) for n in ("mse", "decoder_nll", "tT")))


def test_the_average_may_start_at_its_full_decay(data: Path, tmp_path: Path) -> None:
    fitter = tiny.fitter(data, tmp_path / "fit", fit={"ema_warmup": False, "ema": 0.9})
    before = {name: p.detach().clone() for name, p in fitter.denoiser.named_parameters()}
    fitter.step(0)
    for name, parameter in fitter.denoiser.named_parameters():
        assert_close(fitter.ema.state()[name], 0.9 * before[name] + 0.1 * parameter.detach())


def test_what_a_run_leaves_behind(data: Path, tmp_path: Path) -> None:
    made = tiny.recipe(evaluation={"every": 4})
    folder = tiny.run_fit(data, tmp_path / "fit", evaluation={"every": 4})
    names = {path.name for path in (tmp_path / "fit").iterdir()}
    assert names == {"run.json", "recipe.yaml", "log.jsonl", "checkpoints", "teacher"}
    assert Recipe.from_yaml(tmp_path / "fit" / "recipe.yaml") == made
    teacher = load_teacher(folder)
    assert teacher.recipe == made
    assert teacher.architecture.sampler.registered_name == "ddim"
    lines = read_log(tmp_path / "fit" / "log.jsonl")
    assert [line["step"] for line in lines if line["kind"] == "fit"] == list(range(1, 9))
    assert [line["step"] for line in lines if line["kind"] == "valid"] == [4, 8]
    assert {"loss", "mse", "decoder_nll", "tT", "grad_norm", "seconds"} <= lines[0].keys()
    assert any(name.startswith("t0.") for name in lines[0])
    assert {"bleu", "copy", "empty"} <= next(line for line in lines if line["kind"] == "valid").keys()


def test_the_averaged_weights_are_kept(data: Path, tmp_path: Path) -> None:
    fitter = tiny.fitter(data, tmp_path / "fit")
    fitter.run()
    kept = dict(load_teacher(tmp_path / "fit").denoiser.named_parameters())
    assert tiny.same({name: p.detach() for name, p in kept.items()}, fitter.ema.state())
    assert not torch.equal(kept["space.word_embedding.weight"], fitter.denoiser.space.table)


def test_without_a_valid_split_there_is_no_validation(data: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(data, tmp_path / "data")
    (alone / "valid.jsonl.gz").unlink()
    tiny.run_fit(alone, tmp_path / "fit", evaluation={"every": 1})
    assert {line["kind"] for line in read_log(tmp_path / "fit" / "log.jsonl")} == {"fit"}


def test_lost_losses_stop_the_run_and_save_nothing(data: Path, tmp_path: Path) -> None:
    changes = {"fit": {"optimizer": {"lr": 1e30}}, "run": {"log_every": 8, "checkpoint_every": 2}}
    with pytest.raises(UserError, match=r"step 2: .* is (nan|inf); lower the learning rate or set fit.optimizer.clip"):
        tiny.run_fit(data, tmp_path / "fit", **changes)
    assert not (tmp_path / "fit" / "checkpoints").exists()


def test_a_teacher_that_the_last_update_breaks_is_not_saved(data: Path, tmp_path: Path) -> None:
    """The losses of an update are those before it, so they are fine."""
    fitter = tiny.fitter(data, tmp_path / "fit", fit={"steps": 1})
    fitter.folder.rewind(0)
    fitter.ema.shadow["space.word_embedding.weight"][0, 0] = float("inf")
    with pytest.raises(UserError, match=r"step 1: the largest averaged weight is (nan|inf); lower the learning rate"):
        fitter.run()
    assert not (tmp_path / "fit" / "checkpoints").exists()
    assert not (tmp_path / "fit" / "teacher").exists()


def test_a_text_that_does_not_fit(data: Path, tmp_path: Path) -> None:
    long = tmp_path / "data"
    long.mkdir()
    (long / "train.jsonl").write_text('{"src": "a b", "trg": "c"}\n{"src": "%s", "trg": "d"}\n' % ("a " * 30))
    with pytest.raises(UserError, match="pair 2: 32 source and 3 target ids, but only 23 fit"):
        tiny.run_fit(long, tmp_path / "fit")
    assert not (tmp_path / "fit").exists()
    assert tiny.run_fit(long, tmp_path / "fit", model={"overlong": "truncate"}).exists()


def test_a_metric_that_cannot_be_had_is_refused_at_once(tmp_path: Path) -> None:
    plain = tmp_path / "data"
    plain.mkdir()
    for split in ("train", "valid"):
        (plain / f"{split}.jsonl").write_text('{"src": "a b", "trg": "c"}\n')
    with pytest.raises(UserError, match="metric 'exact_validity' needs a corpus whose correct outputs are known"):
        tiny.run_fit(plain, tmp_path / "fit", evaluation={"metric": "exact_validity"})
    assert not (tmp_path / "fit").exists()
