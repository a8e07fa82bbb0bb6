"""From rows to tokens: noise, network calls and rounding, as they are written or compiled."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch._dynamo
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dlkit.decoders._base import Decoder
from dlkit.denoiser import Denoiser, Prediction
from dlkit.diffusion.codes import choosing
from dlkit.diffusion.condition import Condition
from dlkit.randomness import Stream, Word, normal, uniform
from dlkit.samplers._base import Observer, Sampler

MANY = torch._dynamo.config.patch(recompile_limit=1 << 16, accumulated_recompile_limit=1 << 16)  # graphs in a process
FEW = 4  # network calls that become one graph, which then holds the network as often


@dataclass(frozen=True)
class Rows:
    """What is to be written.

    Attributes:
        ids: the sources laid out.
        mask: True where text is written.
        keys: what the draws of each row depend on.
        starts: the code that each row begins with; it matters where noises are counted.
    """

    ids: Int[Tensor, "b l"]
    mask: Bool[Tensor, "b l"]
    keys: Int[Tensor, " b"]
    starts: Int[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.ids)

    def taken(self, which: Int[Tensor, " n"]) -> Self:
        """Some of the rows."""
        return replace(self, **{name: getattr(self, name)[which] for name in ("ids", "mask", "keys", "starts")})

    def filled(self, size: int) -> Self:
        """So many rows: these, and the first one again. No row depends on another."""
        which = torch.arange(size, device=self.ids.device)
        return self if size == len(self) else self.taken(torch.where(which < len(self), which, 0))

    def to(self, device: torch.device) -> Self:
        return type(self)(*(each.to(device) for each in (self.ids, self.mask, self.keys, self.starts)))


@dataclass(frozen=True)
class Writing:
    """How rows become tokens.

    Attributes:
        denoiser, sampler, decoder: parts of it.
        is_conditional: whether rows hold sources.
    """

    denoiser: Denoiser
    sampler: Sampler
    decoder: Decoder
    is_conditional: bool

    def write(self, rows: Rows, seed: int, observe: Observer | None = None) -> Int[Tensor, "b l"]:
        """The tokens of all positions, a function of (seed, key) for each row."""
        stream = Stream(seed, "generate")
        return self.tokens(rows, lambda k: stream.at(k).word(), Stream(seed, "decode").word(), observe)

    def tokens(
        self, rows: Rows, word: Callable[[int], Word], last: Word, observe: Observer | None = None
    ) -> Int[Tensor, "b l"]:
        """The same with the streams of the noises and of the decoder given by their words."""
        space = self.denoiser.space
        cond = Condition(space.embed(rows.ids) if self.is_conditional else None, rows.mask)
        x = self.sampler.sample(self.denoiser, cond, lambda k: self._drawn(rows, k, word(k)), observe)
        return self.decoder.decode(x, space, uniform(last, rows.keys, x.shape[1]))

    def _drawn(self, rows: Rows, k: int, word: Word) -> Float[Tensor, "b l d"]:
        """The k-th noise; where noises are counted the first chooses the rows' codes."""
        noise, codes = normal(word, rows.keys, rows.ids.shape[1], self.denoiser.space.dim), self.sampler.starts
        return noise if k or codes is None else choosing(noise, rows.starts, codes)

    @property
    def calls(self) -> int:
        return self.sampler.calls(self.denoiser.process.noise_schedule)


class CompiledNetwork:
    """A writing whose network is compiled, for batches of one size; a CUDA graph where there is a GPU.

    Args:
        writing: what is written.
        size: rows of a batch; fewer are filled up.
    """

    def __init__(self, writing: Writing, size: int) -> None:
        self.size = size
        self._writing = replace(writing, denoiser=compiled_network(writing.denoiser))

    @torch.inference_mode()
    def write(self, rows: Rows, seed: int, observe: Observer | None = None) -> Int[Tensor, "b l"]:
        """See :meth:`Writing.write`."""
        with MANY:
            return self._writing.write(rows.filled(self.size), seed, observe)[: len(rows)]


class Captured:
    """Noise, network calls, rounding and tokens as one compiled graph, for batches of one size.

    On a GPU it is a CUDA graph: one launch, whatever it holds. The tokens are those of the writing, but for what
    compiling rounds otherwise.

    Args:
        writing: what is captured; of a few network calls, as each is in the graph.
        size: rows of a batch; fewer are filled up.
    """

    def __init__(self, writing: Writing, size: int) -> None:
        self.size, self._writing = size, writing
        self._words = 2 * writing.calls + 1  # of all noises that a sampler may ask for
        how = how_to_compile(writing.denoiser)
        self._graph = torch.compile(self._run, fullgraph=True, dynamic=False, **how)

    def _run(
        self,
        ids: Int[Tensor, "b l"],
        mask: Bool[Tensor, "b l"],
        keys: Int[Tensor, " b"],
        starts: Int[Tensor, " b"],
        words: Int[Tensor, " n"],
    ) -> Int[Tensor, "b l"]:
        return self._writing.tokens(Rows(ids, mask, keys, starts), lambda k: words[k], words[-1])

    @torch.inference_mode()
    def __call__(
        self,
        ids: Int[Tensor, "b l"],
        mask: Bool[Tensor, "b l"],
        keys: Int[Tensor, " b"],
        seed: int = 0,
        starts: Int[Tensor, " b"] | None = None,
    ) -> Int[Tensor, "b l"]:
        """The tokens of all positions.

        Args:
            ids, mask, keys, starts: see :class:`Rows`; at most ``size`` of them.
            seed: of generation.

        Raises:
            ValueError: there are more rows.
        """
        return self.write(Rows(ids, mask, keys, torch.zeros_like(keys) if starts is None else starts), seed)

    def write(self, rows: Rows, seed: int, observe: Observer | None = None) -> Int[Tensor, "b l"]:
        """See :meth:`Writing.write`; nothing inside a graph can be observed."""
        if not 0 < len(rows) <= self.size:
            raise ValueError(f"captured for 1 to {self.size} rows, not {len(rows)}")
        full, stream = rows.filled(self.size), Stream(seed, "generate")
        words = torch.tensor([*(stream.at(k).word() for k in range(self._words)), Stream(seed, "decode").word()])
        with MANY:
            found = self._graph(full.ids, full.mask, full.keys, full.starts, words.to(full.ids.device))
        return found[: len(rows)].clone()  # a CUDA graph's results are its own


def compiled_network(denoiser: Denoiser) -> Denoiser:
    """A denoiser that shares the weights of this one, and compiles itself when it is first called."""
    twin = copy.copy(denoiser)
    twin.compile(fullgraph=True, dynamic=False, **how_to_compile(denoiser))
    if denoiser.space.device.type == "cuda":  # a CUDA graph writes over its results when it runs again
        ask = twin.predict
        twin.predict = lambda *args, **options: _copied(ask(*args, **options))
    return twin


def _copied(found: Prediction) -> Prediction:
    return Prediction(*(None if each is None else each.clone() for each in vars(found).values()))  # type: ignore[arg-type]


def how_to_compile(denoiser: Denoiser) -> dict[str, Any]:
    """As a CUDA graph on a GPU; in bf16 on a CPU with the matrices as they are now, laid out for its products.

    The layout is worth about a tenth of a product of bf16 matrices, and nothing of one in fp32.
    """
    if denoiser.space.device.type == "cuda":
        return {"mode": "reduce-overhead"}
    return {} if denoiser.lower is None else {"options": {"freezing": True}}


def size_for(count: int, most: int) -> int:
    """Rows of a compiled batch: the power of two that holds so many texts, at most ``most``."""
    return min(most, 1 << max(count - 1, 0).bit_length())
