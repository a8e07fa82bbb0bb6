"""Writing texts: a teacher's steps beside the original's loop, and a student's one call beside 2,000 steps."""

import copy

import pytest
import torch
from torch import Tensor

from benchmarks import networks
from benchmarks.measure import peak_bytes
from benchmarks.networks import BASE, DIM, SMALL, STEPS, VOCAB, Size
from benchmarks.reference.original_sampler import OriginalNetwork, OriginalSampler
from benchmarks.versus import Case
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.generator.writing import compiled_network
from dlkit.randomness import Stream
from dlkit.samplers._base import Noise
from dlkit.samplers.ancestral import Ancestral
from dlkit.schedules._base import Schedule

LENGTH, GIVEN = 128, 20
TINY: Size = (1, 64, 2, 128)


class Beginning(Ancestral):
    """The first steps of an ancestral run of 2,000."""

    count: int = 1

    def path(self, schedule: Schedule) -> list[tuple[float, float]]:
        return super().path(schedule)[: self.count]


class Teacher:
    """A teacher's network with the original's beside it, of the same weights, and what both are asked.

    Args:
        size: of the network.
        batch: texts at once.
        steps: how many of the 2,000 are taken.
    """

    def __init__(self, size: Size, batch: int, device: torch.device, steps: int = 1, vocab: int = VOCAB) -> None:
        self.denoiser = networks.denoiser(*size, vocab=vocab).to(device)
        network = OriginalNetwork(self.denoiser.backbone, heads=size[2], ff=size[3]).to(device)  # type: ignore[arg-type]
        self.original = OriginalSampler(network, self.denoiser.space.table.detach(), STEPS)  # type: ignore[attr-defined]
        self.sampler, self.steps = Beginning(steps=STEPS, count=steps, rounding=True), steps
        ids = torch.randint(vocab, (batch, LENGTH), generator=torch.Generator().manual_seed(1)).to(device)
        mask = torch.arange(LENGTH, device=device).expand(batch, LENGTH) >= GIVEN
        self.cond = Condition(self.denoiser.space.embed(ids).detach(), mask)
        self.keys = torch.arange(batch, device=device)

    @property
    def noise(self) -> Noise:
        return lambda k: Stream(0, "generate").at(k).normal(self.keys, LENGTH, DIM)

    @torch.inference_mode()
    def ours(self, denoiser: Denoiser | None = None) -> Tensor:
        return self.sampler.sample(denoiser or self.denoiser, self.cond, self.noise)

    def reference(self, same_noise: bool = False) -> list[Tensor]:
        """All states, as the original keeps them."""
        noises = [self.noise(k + 1) for k in range(self.steps)] if same_noise else None
        assert self.cond.anchor is not None
        return self.original.sample(self.noise(0), self.cond.anchor, self.cond.mask, self.steps, noises)

    def in_bf16(self) -> Denoiser:
        """The network as `generate(compile=True)` runs it in bf16."""
        low = copy.deepcopy(self.denoiser)
        low.compute_in(torch.bfloat16)
        return compiled_network(low)

    def require_the_same_text(self) -> None:
        """Both find the same tokens in their predictions, so their states are the same but for rounding."""
        with torch.inference_mode():
            torch.testing.assert_close(self.ours(), self.reference(same_noise=True)[-1], rtol=1e-4, atol=1e-4)


def flops(size: Size, texts: int) -> float:
    """Of a network call with rounding."""
    return networks.flops(networks.architecture(*size, length=LENGTH), texts, rounded=True)


@pytest.mark.parametrize(("name", "size", "bar"), [("BERT-base", BASE, 1.2), ("BERT-small", SMALL, 1.5)])
def test_a_step_of_the_teacher(versus, quick, device, name, size, bar):
    if quick and size == BASE:
        pytest.skip("takes longer than a quick run has")
    batch = 2 if quick else 8
    teacher = Teacher(size, batch, device)
    teacher.require_the_same_text()
    work, low = flops(size, batch), None if quick else teacher.in_bf16()
    row, note = f"teacher's step, {name}, batch {batch}", "against the fp32 reference"
    cases = [Case(f"{row}, fp32", teacher.ours, bar, flops=work, note="equal tokens")]
    if low is not None:
        teacher.ours(low)  # compiled at its first call
        fast = 3.0 if size == BASE else None
        title = f"{row}, bf16, network compiled"
        cases.append(Case(title, lambda: teacher.ours(low), fast, flops=work, bf16=True, note=note))
    versus.several(Case("reference", teacher.reference), cases)


def test_peak_memory_of_a_teachers_run(versus, quick, device):
    """With a tiny network, so that 200 steps take seconds: rounding has the peak, at BERT-base too (same bytes)."""
    if quick:
        pytest.skip("distances and states are too few to compare in what a quick run has time for")
    steps, batch = 200, 1
    teacher = Teacher(TINY, batch, device, steps)
    kept: list[int] = []
    ours = peak_bytes(teacher.ours, device, leaves_nothing=True)
    reference = peak_bytes(lambda: kept.append(len(teacher.reference())), device, leaves_nothing=True)
    assert set(kept) == {steps}
    name = f"teacher's run, peak memory above weights, {steps} steps, batch {batch}"
    versus.compare(name, ours=ours, reference=reference, bar=0.3)


@pytest.mark.parametrize("batch", [1, 32])
def test_a_student_against_2000_steps(versus, quick, device, batch):
    """Text in to text out, tokenizer included, against a step of the same network, measured and taken 2,000 times."""
    size = SMALL if quick else BASE
    batch = min(batch, 2) if quick else batch
    student, steps = networks.student(*size).to(device), 2 if batch == 1 else 1
    teacher = Teacher(size, batch, device, steps)
    teacher.denoiser = student.denoiser
    sources = networks.texts(batch, GIVEN - 3)
    texts = student.generate(sources, seed=1)
    assert [len(group) for group in texts] == [1] * batch
    assert texts == [student.generate([source], seed=1)[0] for source in sources[:1]] + texts[1:]
    versus(
        f"student, text to text, {'BERT-small' if quick else 'BERT-base'}, batch {batch}, against 2,000 steps",
        ours=lambda: student.generate(sources, seed=1),
        reference=teacher.ours,
        scale=STEPS / steps,
        bar=1_900.0,
        rounds=21 if batch == 1 else 3,
        flops=flops(size, batch),
        note="same network, same precision",
    )


def test_a_captured_call(versus, quick, device):
    """Noise, network, rounding and tokens as one graph, at batch 1, where what is around the products weighs most."""
    if quick:
        pytest.skip("compiling takes longer than a quick run has")
    name, size = ("BERT-base", BASE) if device.type == "cuda" else ("BERT-small", SMALL)
    student, sources = networks.student(*size).to(device), networks.texts(1, GIVEN - 3)
    assert student.generate(sources, compile=True) == student.generate(sources)
    versus(
        f"student, text to text, {name}, batch 1, one captured graph",
        ours=lambda: student.generate(sources, compile=True),
        reference=lambda: student.generate(sources),
        rounds=21,
        flops=flops(size, 1),
        note="beside the same call uncompiled",
    )
