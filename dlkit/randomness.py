"""Random numbers that belong to a sample, not to a process.

Every draw is a function of (seed, stream name, step, sample index): a counter-based generator with no state. A sample
therefore gets the same noise whatever its batch mates, its rank or the history of the run; resuming needs no saved
state.

The generator is SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"): element ``j``
of a sample with key ``k`` is ``mix(k + (j + 1) * golden)``. Normals come from pairs of uniforms by Box & Muller (1958).
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
INVERSE = pow(GOLDEN, -1, 1 << 64)
LARGE = 1 << 18
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
Word = int | Int[Tensor, ""]


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shift_right(x: Int[Tensor, "*n"], bits: int) -> Int[Tensor, "*n"]:
    """Logical shift: torch's ``>>`` repeats the sign bit, which is masked away here."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """SplitMix64's finaliser, a bijection of 64-bit words in which every input bit reaches every output bit."""
    x = (x ^ _shift_right(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift_right(x, 27)) * _signed(_MIX_2)
    return x ^ _shift_right(x, 31)


def truncated(normal: Float[Tensor, "*n"], bound: float) -> Float[Tensor, "*n"]:
    """Standard normals turned into draws from the normal distribution truncated to |z| <= bound.

    What lies within the bound stays. What lies beyond has a tail probability u = P(|z| > |value|) / P(|z| > bound) that
    is uniform, and goes to the quantile u of the truncated distribution: the same distribution as drawing again until a
    value fits, without a second draw.
    """
    beyond, scale = normal.abs() > bound, math.sqrt(0.5)
    u = torch.special.erfc(normal.double().abs() * scale) / math.erfc(bound * scale)
    moved = torch.special.erfinv((2.0 * u - 1.0) * math.erf(bound * scale)) / scale
    return torch.where(beyond, moved.clamp(-bound, bound).to(normal.dtype), normal)


@torch.compiler.assume_constant_result  # a compiled graph takes in the number, not the hash
def hash64(text: str) -> int:
    """A stable 63-bit hash of a text, used as the sample index of what has no number of its own."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def _words(word: Word, index: Int[Tensor, " b"], count: int) -> Int[Tensor, "b n"]:
    other = word * 3 + 1 if isinstance(word, Tensor) else _signed(word * 3 + 1)
    key = _mix(_mix(index.long() * _signed(GOLDEN) + word) ^ other)
    # key + j golden, as golden (key / golden + j) modulo 2^64: compiled code takes a product of j with a constant for a
    # place in memory, whose overflow is undefined, and got it wrong
    start = key * _signed(INVERSE)
    counter = torch.arange(1, count + 1, device=index.device, dtype=torch.int64)
    return _mix((start[:, None] + counter) * _signed(GOLDEN))


def uniform(word: Word, index: Int[Tensor, " b"], *shape: int) -> Float[Tensor, "b ..."]:
    """:meth:`Stream.uniform` of the stream with this :meth:`Stream.word`, which a compiled graph takes as a tensor."""
    words = _words(word, index, math.prod(shape))
    return ((_shift_right(words, 12).double() + 0.5) * 2.0**-52).reshape(len(index), *shape)


def normal(word: Word, index: Int[Tensor, " b"], *shape: int) -> Float[Tensor, "b ..."]:
    """:meth:`Stream.normal` of the stream with this :meth:`Stream.word`, which a compiled graph takes as a tensor.

    Large blocks are drawn one after another: what a draw needs beside its result is several times as large. A compiled
    graph needs nothing beside.
    """
    count = math.prod(shape)
    if count > LARGE and len(index) > 1 and not torch.compiler.is_compiling():
        drawn = torch.empty(len(index), *shape, device=index.device)
        for row, one in zip(drawn, index.split(1), strict=True):
            row.copy_(normal(word, one, *shape)[0])
        return drawn
    words = _words(word, index, (count + 1) // 2)
    first = (_shift_right(words, 32).double() + 0.5) * 2.0**-32
    second = (words & 0xFFFFFFFF).float() * (2.0 * math.pi * 2.0**-32)
    radius = torch.sqrt(-2.0 * torch.log(first)).float()
    pair = torch.cat((radius * torch.cos(second), radius * torch.sin(second)), dim=1)
    return pair[:, :count].reshape(len(index), *shape)


@dataclass(frozen=True)
class Stream:
    """A named source of per-sample random numbers.

    Attributes:
        seed: of the run.
        name: of the use, for example ``"generator/noise"``; two names never share numbers.
        step: of the run, or 0.
    """

    seed: int
    name: str
    step: int = 0

    def at(self, step: int) -> "Stream":
        """The same stream at another step."""
        return Stream(self.seed, self.name, step)

    def named(self, name: str) -> "Stream":
        """A stream below this one."""
        return Stream(self.seed, f"{self.name}/{name}", self.step)

    def word(self) -> int:
        """The 63-bit number that the draws depend on, which stands for seed, name and step."""
        return hash64(f"{self.seed}\x1f{self.name}\x1f{self.step}")

    def uniform(self, index: Int[Tensor, " b"], *shape: int) -> Float[Tensor, "b ..."]:
        """Uniform on (0, 1), float64, 52 bits; one block of ``shape`` for each sample index."""
        return uniform(self.word(), index, *shape)

    def normal(self, index: Int[Tensor, " b"], *shape: int) -> Float[Tensor, "b ..."]:
        """Standard normal, float32; one block of ``shape`` for each sample index."""
        return normal(self.word(), index, *shape)

    def integers(self, index: Int[Tensor, " b"], high: int, *shape: int) -> Int[Tensor, "b ..."]:
        """Integers from 0 to ``high - 1``, uniform up to ``high * 2**-52``."""
        return (self.uniform(index, *shape) * high).long().clamp_(max=high - 1)

    def integer(self) -> int:
        """One 63-bit number, to seed a library that keeps its own state."""
        return hash64(f"{self.seed}\x1f{self.name}\x1f{self.step}\x1finteger")
