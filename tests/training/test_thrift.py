"""What a training step computes, keeps and waits for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import tiny
from dlkit.errors import UserError
from dlkit.kernels import _twin, score_distillation
from dlkit.kernels.score_distillation import _loss
from dlkit.objectives._terms import added
from dlkit.recipe import Recipe
from dlkit.testing._material import with_critic
from dlkit.training.engine import kernels
from dlkit.training.stage import StageRun
from dlkit.training.turns import Turn
from live_memory import LiveMemory

LARGER: dict[str, Any] = {"layers": 4, "hidden": 64, "heads": 4, "ff": 256}
MEMORIES = ("fast", "low", "lowest")


class Gradients(tiny.WatchedEngine):
    """Keeps a copy of the gradients of each optimiser step."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        tiny.TorchEngine.__init__(self, run)
        self.found: list[list[Tensor]] = []
        self.watch = lambda optimizer: self.found.append(
            [p.grad.clone() for group in optimizer.param_groups for p in group["params"]]
        )


@pytest.fixture(scope="module")
def larger(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher whose layers are all but a little of its work and of its memory."""
    folder = tmp_path_factory.mktemp("larger")
    return tiny.run_fit(data, folder / "fit", model={"backbone": {**LARGER, "name": "diffuseq"}}, fit={"steps": 1})


def stage_of(teacher: Path, data: Path, out: Path, **changes: Any) -> StageRun:
    """The beginning of a stage, with an engine that keeps gradients."""
    engine = Gradients(tiny.recipe(**changes).run)
    return StageRun(tiny.distiller(teacher, data, out, engine, **changes), 0, None)


def gradients(stage: StageRun, steps: int = 1) -> list[list[Tensor]]:
    for step in range(steps):
        stage.step(step)
    return stage.whole.engine.found  # type: ignore[attr-defined]


OBJECTIVES: dict[str, dict[str, Any]] = {
    "sid and adversary": {"adv": True},
    "penalties": {"adv": {"r1": 1.0, "r2": 1.0}},
    "dmd, head on the teacher": {"objective": "dmd", "adv": {"features": "teacher"}},
    "f_distill": {"objective": "f_distill", "adv": True},
}


@pytest.mark.parametrize("changes", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_are_the_same_whatever_is_kept(
    changes: dict[str, Any], precision: str, teacher: Path, data: Path, tmp_path: Path
) -> None:
    made = [
        gradients(stage_of(teacher, data, tmp_path / memory, run={"memory": memory, "precision": precision}, **changes))
        for memory in MEMORIES
    ]
    for other in made[1:]:
        for ours, theirs in zip(made[0], other, strict=True):
            one, two = (torch.cat([gradient.flatten() for gradient in all_]) for all_ in (ours, theirs))
            if precision == "fp32":
                assert_close(one, two, rtol=1e-6, atol=1e-6)
            else:  # where a weight's copy in bf16 is kept for two calls, their gradients are added in bf16
                assert float((one - two).norm()) <= 0.05 * float(one.norm())


def test_a_fit_is_the_same_whatever_is_kept(data: Path, tmp_path: Path) -> None:
    """Dropout included: what is computed again drops the same units."""
    found = []
    for memory in MEMORIES:
        changes = {"run": {"memory": memory}, "model": {"backbone": {"dropout": 0.3, "attention_dropout": 0.3}}}
        engine = Gradients(tiny.recipe(**changes).run)
        fitter = tiny.fitter(data, tmp_path / memory, engine, **changes)
        fitter.step(0)
        found.append(engine.found[0])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert_close(one, two, rtol=1e-6, atol=1e-7)


FORWARDS = {  # of one network, where a gradient to the inputs and one to the weights count as much as a forward pass
    "fresh samples": ({"plan": "dlm_one"}, 14),
    "shared samples": ({"plan": {"share_samples": True}}, 13),
    "shared predictions": ({"plan": {"share_samples": True, "share_predictions": True}}, 12),
    "low memory": ({"run": {"memory": "low"}}, 15),
    "lowest memory": ({"run": {"memory": "lowest"}}, 19),
    "detached": ({"objective": "dmd"}, 13),
    "detached, no adversary": ({"objective": "dmd", "adv": None}, 9),
    "no adversary": ({"adv": None}, 11),
}


@pytest.mark.parametrize(("changes", "forwards"), FORWARDS.values(), ids=FORWARDS)
def test_forward_equivalents(changes: dict[str, Any], forwards: int, larger: Path, data: Path, tmp_path: Path) -> None:
    """Operations that were done, counted, are those of the plan on paper."""
    stage = stage_of(larger, data, tmp_path / "run", **{"adv": True, **changes})
    draw = stage.draw("generator", 0)
    with FlopCounterMode(display=False) as one, torch.no_grad():
        stage.studio.generated(draw, "generator", 0)
    with FlopCounterMode(display=False) as all_:
        stage.step(0)
    assert all_.get_total_flops() / one.get_total_flops() == pytest.approx(forwards, rel=0.03)


def peak(stage: StageRun) -> int:
    stage.step(0)  # the optimisers' state is there afterwards
    stage.whole.engine.found.clear()  # type: ignore[attr-defined]
    stage.whole.engine.watch = lambda optimizer: None  # type: ignore[attr-defined]
    with LiveMemory() as memory:
        stage.step(1)
    return memory.peak


def test_less_is_kept(larger: Path, data: Path, tmp_path: Path) -> None:
    found = {
        memory: peak(stage_of(larger, data, tmp_path / memory, adv=True, batch_size=64, run={"memory": memory}))
        for memory in MEMORIES
    }
    assert found["low"] < 0.75 * found["fast"]
    assert found["lowest"] < 0.6 * found["low"]


@pytest.mark.parametrize("adv", [None, {}, {"features": "teacher"}], ids=["alone", "adversary", "teacher's features"])
@pytest.mark.parametrize("objective", ["sid", "dmd", "diff_instruct", "moment_matching", "fisher"])
def test_shared_predictions_are_both_losses_of_one_call(
    objective: str, adv: Any, teacher: Path, data: Path, tmp_path: Path
) -> None:
    """The gradients are those of separate turns at the same weights, states and times, whoever asks first."""
    plan = {"share_samples": True, "share_predictions": True}
    of_critic, of_student = gradients(
        stage_of(teacher, data, tmp_path / "joint", objective=objective, adv=adv, plan=plan)
    )
    apart = stage_of(teacher, data, tmp_path / "apart", objective=objective, adv=adv)
    networks, draw = apart.networks, apart.draw("critic", 0)
    generated = apart.generate(draw, "critic", 0, graph=True)
    fake, still = (apart.noised(x0, draw, "critic", 0, 0) for x0 in (generated, generated.detach()))
    turn = Turn(networks, apart.whole.adversary, critic=False)
    terms = [weight * sum(one.generator_terms(turn, fake).values()) for one, _, weight in apart.weighted()]
    wanted = torch.autograd.grad(sum(terms), list(networks.student.backbone.parameters()))  # type: ignore[arg-type]
    turn, real = Turn(networks, apart.whole.adversary, critic=True), apart.really_noised(0, 0.0)
    groups = [(one, weight, one.critic_terms(turn, still, real)) for one, weight, _ in apart.weighted()]
    if real is not None:
        groups = [(one, weight, added(group, one.real_terms(turn, real))) for one, weight, group in groups]
    learnt = torch.autograd.grad(
        sum(weight * sum(group.values()) for _, weight, group in groups),  # type: ignore[arg-type]
        list(networks.critic.parameters()),
    )
    for ours, theirs in ((of_student, wanted), (of_critic, learnt)):
        for one, two in zip(ours, theirs, strict=True):
            assert_close(one, two, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"plan": {"share_predictions": True}}, "share_predictions needs share_samples=true"),
        (
            {"plan": {"share_samples": True, "share_predictions": True}, "run": {"memory": "low"}},
            "run.memory=low: plan.share_predictions goes back through one graph twice",
        ),
        (
            {"plan": {"share_samples": True, "share_predictions": True}, "guidance": {"teacher": 2.0, "critic": 2.0}},
            "plan.share_predictions: the critic's turn and the generator's ask the fake score differently",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Recipe.from_dict(tiny.merged(with_critic(tiny.SETTINGS).to_dict(), changes))


class HostWaits(TorchDispatchMode):
    """Refuses what a GPU would have to finish all its work for."""

    WAITS = frozenset(
        {
            *(
                "_local_scalar_dense",
                "nonzero",
                "masked_select",
                "equal",
                "is_nonzero",
                "bincount",
                "repeat_interleave",
            ),
            *("_unique", "_unique2", "unique_dim", "unique_consecutive", "linalg_inv_ex", "linalg_solve_ex"),
        }
    )
    READS = ("tolist", "numpy", "cpu", "__array__", "item")

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = [a for a in (args[1] if name in ("index", "index_put", "index_put_") else ()) if a is not None]
        if name in self.WAITS or any(mask.dtype == torch.bool for mask in masks):
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on no tensor is read by the host in ways that no dispatcher sees."""

    def refuse(name: str) -> Callable[..., Any]:
        def read(tensor: Tensor, *args: Any, **options: Any) -> Any:
            raise AssertionError(f"{name} waits for the device")

        return read

    def begin() -> None:
        for name in HostWaits.READS:
            monkeypatch.setattr(Tensor, name, refuse(name))

    return begin


STEPS: dict[str, dict[str, Any]] = {
    **OBJECTIVES,
    "shared samples": {"plan": {"share_samples": True}},
    "shared predictions": {"adv": True, "plan": {"share_samples": True, "share_predictions": True}},
    "low memory": {"adv": True, "run": {"memory": "low"}},
    "conv head": {"adv": {"head": "conv"}},
    "several steps": {"generator_steps": 3, "generator_input": "backward_simulation"},
    "noised data": {"generator_steps": 3, "generator_input": "noised_data"},
    "codes": {"codes": 4},
}


@pytest.mark.parametrize("changes", STEPS.values(), ids=STEPS)
def test_nothing_in_a_step_waits_for_the_device(
    changes: dict[str, Any],
    teacher: Path,
    data: Path,
    tmp_path: Path,
    no_reading: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But for what is logged, every so many steps; ``x0_noise=sigma_0`` asks for a number that the host has itself.

    The gradient of the loss is read on a CPU only.
    """
    monkeypatch.setattr(score_distillation, "_is_one", lambda number: False)
    changes = tiny.merged({"run": {"log_every": 10}, "stages": [{"steps": 9}]}, changes)
    stage = stage_of(teacher, data, tmp_path / "run", **changes)
    stage.step(0)
    no_reading()
    with HostWaits():
        stage.step(1)


def test_what_waits_is_noticed(no_reading: Callable[[], None]) -> None:
    x = torch.arange(3.0)
    no_reading()
    waits: list[Callable[[], Any]] = [
        *(lambda: float(x[0]), lambda: x[x > 1], lambda: bool((x > 0).all()), lambda: torch.equal(x, x)),
        *(lambda: x.tolist(), lambda: x.numpy(), lambda: x.cpu(), lambda: x[0].item()),
        *(lambda: torch.bincount(x.long()), lambda: x.repeat_interleave(x.long())),
    ]
    with HostWaits():
        for wait in waits:
            with pytest.raises(AssertionError, match="waits for the device"):
                wait()


@pytest.mark.slow
@pytest.mark.compile
@pytest.mark.parametrize("what", ["kernels", "networks"])
@pytest.mark.parametrize("memory", MEMORIES)
def test_compiled_steps_have_the_same_gradients(
    what: str, memory: str, teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps: none of them toggles ``requires_grad``, so nothing is compiled for a third kind of call."""
    monkeypatch.setattr(_twin, "SMALL", 0)
    monkeypatch.setattr(_loss, "_fused", None)
    run = {"memory": memory}
    eager = gradients(stage_of(teacher, data, tmp_path / "eager", adv=True, run=run), steps=2)
    assert _loss._fused is None
    stage = stage_of(teacher, data, tmp_path / "compiled", adv=True, run={**run, "compile": what})
    with kernels(stage.recipe.run):
        stage.step(0)
        with torch.compiler.set_stance("fail_on_recompile"):
            stage.step(1)
    assert _loss._fused is not None
    assert (stage.networks.frozen_fake.backbone._compiled_call_impl is not None) == (what == "networks")
    for ours, theirs in zip(gradients(stage, 0), eager, strict=True):
        for one, two in zip(ours, theirs, strict=True):
            assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_a_recipe_turns_compiled_kernels_on_for_its_run() -> None:
    for what in ("kernels", "nothing", "networks"):
        with kernels(tiny.recipe(run={"compile": what}).run):
            assert _twin.is_compiled() == (what != "nothing")
        assert not _twin.is_compiled()
    with _twin.compiled(), kernels(tiny.recipe().run):
        assert _twin.is_compiled()  # a Recipe that says nothing leaves it as it is


def test_networks_of_flow_maps_are_not_compiled() -> None:
    with pytest.raises(
        UserError, match=r"run\.compile=networks: flow maps differentiate their networks in forward mode"
    ):
        Recipe(teacher="flm", objective="lsd", run={"compile": "networks"})


def test_without_a_compiler_networks_run_as_they_are(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlkit.training.engine.has_compiler", lambda device: False)
    stage = stage_of(teacher, data, tmp_path / "run", run={"compile": "networks"})
    assert stage.networks.student.backbone._compiled_call_impl is None


def test_a_network_that_cannot_compute_again_is_refused() -> None:
    engine = tiny.TorchEngine(tiny.recipe(run={"memory": "low"}).run)
    with pytest.raises(UserError, match=r"run\.memory=low: a Linear cannot compute its layers again; set"):
        engine.prepare(torch.nn.Linear(2, 2), learns=True)
