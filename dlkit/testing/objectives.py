"""What objectives promise."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit import objectives
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.generator import load_student, load_teacher
from dlkit.objectives._base import Noised, Objective, Terms
from dlkit.objectives._terms import added
from dlkit.objectives._trajectory import Trajectory, Trip
from dlkit.part import from_spec
from dlkit.testing import _material as material
from dlkit.testing import _trajectories
from dlkit.testing._promise import compiled, promise, require, require_close
from dlkit.training.turns import Networks, Turn

STEPS = 50
ORDER = (2, 0, 3, 1)


@dataclass(frozen=True)
class Scene:
    """The networks of a turn, none of which looks at more than one position at a time, and its roles.

    Attributes:
        networks: float64.
        turn: their roles.
    """

    networks: Networks
    turn: Turn

    @classmethod
    def of(cls, part: Objective, critic: bool, process: GaussianProcess | None = None) -> "Scene":
        if isinstance(part, Trajectory):
            networks = _trajectories.networks(part, process)
            return cls(networks, Turn(networks, None, critic))
        teacher, student = (material.pointwise_denoiser(seed, process) for seed in (0, 1))
        adversary: Any = adversary_of(part)
        networks = Networks.start(teacher.requires_grad_(False), student, adversary, 0)
        if networks.head is not None:
            networks = replace(networks, head=networks.head.double())  # with a twin of that type
        scene = cls(networks, Turn(networks, adversary, critic))
        material.seeded(_disturb, scene.fake_network)
        return scene

    @property
    def positions(self) -> int:
        """How long the texts are."""
        return self.networks.teacher.process.noise_schedule.positions or material.LENGTH

    @property
    def fake_network(self) -> torch.nn.Module | None:
        return None if self.networks.fake is None else self.networks.fake.backbone


def _disturb(network: torch.nn.Module) -> None:
    """The fake score begins as a copy of the teacher, where many losses vanish."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


def adversary_of(part: Objective) -> Objective | None:
    """The adversary beside an objective that needs a discriminator: itself, if it brings the head."""
    if "discriminator" not in part.needs.roles:
        return None
    return part if part.is_adversary else from_spec(objectives.registry, "adversarial")


def recipe_of(part: Objective) -> dict[str, Any]:
    """The settings of a run with it."""
    adversary, spec = adversary_of(part), part.spec()
    if "map" in spec:
        spec["map"] = str(material.mapped())
    return {"objective": spec, "adv": None if adversary is None else adversary.spec()}


def teacher_of(part: Objective) -> Path:
    """A teacher that it can distil: one that can take a second time, if the student must."""
    return material.teacher() if getattr(part, "student_kind", "same") == "same" else material.flow_teacher()


def generated(part: Objective, scene: Scene, name: str, grad: bool = False) -> Noised:
    """What the generator's turn is given: text and its noised form, or the beginnings of jumps."""
    state = noised(scene, name, grad)
    if not isinstance(part, Trajectory):
        return state
    return _trajectories.trip(part, scene.networks.teacher.process, state, state.cond)


def learners(part: Objective, scene: Scene, fake: Noised) -> list[Tensor]:
    """What the generator's turn pulls at: the generated text, or the student that is asked in the turn itself."""
    student = scene.networks.student.parameters()
    return [p for p in student if p.requires_grad] if isinstance(part, Trajectory) else [fake.x0]


def noised(scene: Scene, name: str, grad: bool = False) -> Noised:
    """States at the times of :func:`dlkit.testing._material.times`, the last positions of longer ones."""
    cond = Condition(material.anchor(torch.float64)[:, -scene.positions :], material.mask()[:, -scene.positions :])
    normal = lambda use: material.normal(use, dtype=torch.float64)[:, -scene.positions :]  # noqa: E731
    x0 = cond.apply(normal(name)).requires_grad_(grad)
    target, t = cond.apply(normal(f"{name}/target")), material.times()
    x_t = scene.networks.teacher.process.q_sample(x0, t, normal(f"{name}/eps"), cond)
    return Noised(x0, x_t, t, cond, target, lambda use: normal(f"{name}/{use}"))


def critic_terms(part: Objective, scene: Scene, fake: Noised, real: Noised | None) -> Terms:
    """All that the critic learns from, real text included."""
    terms = part.critic_terms(scene.turn, fake, real)
    return terms if real is None else added(terms, part.real_terms(scene.turn, real))


def terms_of(part: Objective, scene: Scene, fake: Noised, real: Noised | None = None) -> Terms:
    """The terms of the scene's turn."""
    if scene.turn.critic:
        terms = critic_terms(part, scene, fake, real)
    else:
        terms = part.generator_terms(scene.turn, fake)
    require(isinstance(terms, dict), f"the terms are a {type(terms).__name__}, not a dict")
    for name, term in terms.items():
        require(isinstance(term, Tensor) and term.shape == (), f"term {name!r} is not a scalar tensor")
        require(term.isfinite(), f"term {name!r} is {term.item()}")
    return terms


def has_gradient(module: torch.nn.Module | None) -> list[str]:
    """Parameters with a gradient."""
    return [] if module is None else [name for name, p in module.named_parameters() if p.grad is not None]


@promise()
def needs_what_there_is(part: Objective) -> None:
    """Its needs name known roles, data and states."""
    known = {
        "roles": {"teacher", "student", "fake_score", "discriminator"},
        "data": {"none", "real", "teacher_samples"},
    }
    require(set(part.needs.roles) <= known["roles"], f"unknown roles {set(part.needs.roles) - known['roles']}")
    require(part.needs.data in known["data"], f"unknown data {part.needs.data!r}")


@promise()
def teaches_the_student(part: Objective) -> None:
    """In the generator's turn finite scalars pull at the student, and no other network gets a gradient.

    That is the text it generated, or itself where it is asked in the turn.
    """
    scene = Scene.of(part, critic=False)
    fake = generated(part, scene, "fake", grad=True)
    terms = terms_of(part, scene, fake)
    require(bool(terms), "there are no terms")
    torch.stack(list(terms.values())).sum().backward()
    grads = [pulled.grad for pulled in learners(part, scene, fake) if pulled.grad is not None]
    require(all(grad.isfinite().all() for grad in grads), "a gradient is not finite")
    require(any((grad != 0).any() for grad in grads), "no gradient reaches the student")
    networks = scene.networks
    others = (networks.teacher, networks.guide, scene.fake_network, networks.head)
    left = [name for network in others for name in has_gradient(network)]
    require(not left, f"the generator's turn leaves a gradient in {', '.join(left)}; use the roles it is given")


@promise()
def teaches_the_critic(part: Objective) -> None:
    """In the critic's turn the fake score and the head learn, where it needs them, and the teacher does not."""
    scene = Scene.of(part, critic=True)
    terms = terms_of(part, scene, generated(part, scene, "fake"), noised(scene, "real"))
    trained = {"fake_score", "discriminator"} & part.needs.roles
    require(bool(terms) or not trained, f"nothing trains the {' and the '.join(sorted(trained))}")
    if terms:
        torch.stack(list(terms.values())).sum().backward()
        fake, head = has_gradient(scene.fake_network), has_gradient(scene.networks.head)
        require("fake_score" not in trained or bool(fake), "no gradient reaches the fake score")
        require("discriminator" not in trained or bool(head or fake), "no gradient reaches the discriminator")
    require(not has_gradient(scene.networks.teacher), "a gradient is left in the teacher")


@promise()
def is_deterministic(part: Objective) -> None:
    """The same states give the same terms."""
    for critic in (False, True):
        one, other = ({**_terms(part, critic)} for _ in range(2))
        require(one.keys() == other.keys(), "two calls have different terms")
        require(all(torch.equal(one[name], other[name]) for name in one), "two calls differ")


@promise()
def counts_generated_positions_only(part: Objective) -> None:
    """What stands at given positions never changes a loss, if the networks look at one position at a time."""
    if part.is_adversary and getattr(part, "condition", False):
        return  # its head is shown the given positions on purpose
    for critic in (False, True):
        for name, term in _terms(part, critic, elsewhere).items():
            require_close(term, _terms(part, critic)[name], f"term {name!r} counts given positions", 1e-9, 1e-12)


@promise()
def does_not_mind_the_order(part: Objective) -> None:
    """A batch in another order has the same loss."""
    for critic in (False, True):
        for name, term in _terms(part, critic, lambda state: material.permuted(state, ORDER)).items():
            require_close(term, _terms(part, critic)[name], f"term {name!r} depends on the order", 1e-9, 1e-12)


@promise()
def knows_noise_of_each_position(part: Objective) -> None:
    """Where each position has noise of its own, a batch in another order has the same loss and the same gradients.

    Then alpha and sigma are [b, l]. A number of each sample, [b], must not meet them as it is: it would go to positions
    without a word where a batch has as many samples as a text has positions, and break wherever else.
    """
    for positions in (material.BATCH, material.LENGTH):
        process, size = material.process_by_position(positions), f"{material.BATCH} texts of {positions} positions"
        for critic in (False, True):
            terms, pulls = _pulled(part, Scene.of(part, critic, process))
            moved, moved_pulls = _pulled(part, Scene.of(part, critic, process), ORDER)
            for name, term in terms.items():
                require_close(moved[name], term, f"with {size}, term {name!r} depends on the order", 1e-9, 1e-12)
            require_close(moved_pulls, pulls, f"with {size}, the gradient depends on the order", 1e-9, 1e-12)


def _pulled(part: Objective, scene: Scene, order: Sequence[int] | None = None) -> tuple[Terms, Tensor]:
    """The terms, for samples in that order, and the gradient that each sample gets from them."""
    fake, real = generated(part, scene, "fake", grad=True), noised(scene, "real")
    at = learners(part, scene, fake)
    if order is not None:
        fake, real = material.permuted(fake, order), material.permuted(real, order)
    terms = terms_of(part, scene, fake, real)
    total = torch.stack([*terms.values(), *(0 * each.sum() for each in at)]).sum()
    return terms, torch.cat([grad.flatten() for grad in torch.autograd.grad(total, at)])


def elsewhere(state: Noised) -> Noised:
    """Other states at the given positions."""
    anchor = state.cond.anchor
    cond = Condition(None if anchor is None else anchor + 1.0, state.cond.mask)
    target = None if state.target is None else cond.apply(state.target)
    states = {"x0": cond.apply(state.x0), "x_t": cond.apply(state.x_t), "cond": cond, "target": target, "memo": {}}
    if isinstance(state, Trip) and state.still is not None:
        states["still"] = elsewhere(state.still)
    return replace(state, **states)


def _terms(part: Objective, critic: bool, change: Any = lambda state: state) -> dict[str, Tensor]:
    scene = Scene.of(part, critic)
    fake, real = change(generated(part, scene, "fake")), change(noised(scene, "real"))
    return {name: term.detach() for name, term in terms_of(part, scene, fake, real).items()}


@promise(compiles=True)
def compiles(part: Objective) -> None:
    """Each turn, networks and gradients included, compiles as one graph and gives what it gives otherwise."""
    for critic in (False, True):
        outcomes = []
        for wrap in (lambda step: step, lambda step: compiled(step, "aot_eager")):
            scene = Scene.of(part, critic)
            step, x0 = _turn(part, scene), noised(scene, "fake", grad=True).x0
            terms = wrap(step)(x0)
            if any(term.requires_grad for term in terms.values()):
                torch.stack(list(terms.values())).sum().backward()
            trained = torch.nn.ModuleDict({"critic": scene.networks.critic, "student": scene.networks.student})
            grads = {name: p.grad for name, p in trained.named_parameters() if p.grad is not None}
            outcomes.append({**terms, **grads} | ({} if x0.grad is None else {"the states": x0.grad}))
        eager, graph = outcomes
        require(eager.keys() == graph.keys(), "other terms or gradients come out compiled")
        for name, value in eager.items():
            require_close(graph[name], value, f"compiled {name} differs", 1e-9, 1e-12)


def _turn(part: Objective, scene: Scene) -> Callable[[Tensor], Terms]:
    """The scene's turn as a function of the generated states; all that is drawn is drawn before."""
    fake, real, process = noised(scene, "fake"), noised(scene, "real"), scene.networks.teacher.process
    eps, more = (material.normal(use, dtype=torch.float64) for use in ("eps", "more"))

    if isinstance(part, Trajectory):
        trip: Any = generated(part, scene, "fake")
        return lambda x0: {} if scene.turn.critic else part.generator_terms(scene.turn, replace(trip, x0=x0.detach()))

    def step(x0: Tensor) -> Terms:
        x_t = process.q_sample(x0, fake.t, eps, fake.cond)
        states = Noised(x0, x_t, fake.t, fake.cond, fake.target, lambda use: more)
        if scene.turn.critic:
            return critic_terms(part, scene, states, replace(real, noise=lambda use: more, memo={}))
        return part.generator_terms(scene.turn, states)  # type: ignore[arg-type]  # no trajectory

    return step


@promise(slow=True)
def distils(part: Objective) -> None:
    """`dlkit distill` runs 50 steps with it on the built-in corpus, and the student has learnt something finite."""
    taught = teacher_of(part)
    folder = material.distilled(STEPS, taught, **recipe_of(part))
    student = load_student(folder).denoiser.backbone.state_dict()
    teacher = load_teacher(taught).denoiser.backbone.state_dict()
    require(all(weights.isfinite().all() for weights in student.values()), "the student has NaN or infinite weights")
    changed = [name for name in student if name not in teacher or not torch.equal(student[name], teacher[name])]
    require(bool(changed), "the student is the teacher")
    log = [json.loads(line) for line in (folder.parent / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    done = max(row["step"] for row in log if row["kind"] == "distill")
    require(done == STEPS, f"the log ends at step {done}")


@promise(slow=True)
def distils_the_same_again(part: Objective) -> None:
    """Two runs of a few steps with one seed leave the same weights, bit for bit."""
    one, other = (
        load_student(material.distilled(3, teacher_of(part), **recipe_of(part))).denoiser.state_dict() for _ in range(2)
    )
    require(all(torch.equal(one[name], other[name]) for name in one), "two runs differ; draw no numbers of your own")
