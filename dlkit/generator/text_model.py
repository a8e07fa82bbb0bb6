"""A model that reads and writes text, with everything it needs in one folder."""

import hashlib
import itertools
import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor

from dlkit import __version__, decoders, samplers
from dlkit.data.sequences import merge_source
from dlkit.data.tokenizer import Tokenizer
from dlkit.decoders._base import Decoder
from dlkit.denoiser import Denoiser
from dlkit.diffusion.codes import taken_in_turn
from dlkit.errors import UserError
from dlkit.files import atomic_folder, write_json
from dlkit.generator.architecture import Architecture
from dlkit.generator.folder import RECIPE, WEIGHTS, aliases, model_folder, read_model
from dlkit.generator.writing import FEW, Captured, CompiledNetwork, Rows, Writing, size_for
from dlkit.guidance import guided
from dlkit.kernels._twin import has_compiler
from dlkit.metrics._base import Sequences
from dlkit.metrics._mbr import mbr as choose_by_mbr
from dlkit.part import from_spec, plugins_of
from dlkit.randomness import Stream, hash64
from dlkit.recipe import Recipe
from dlkit.samplers._base import Observer, Sampler

_T = TypeVar("_T")
BATCH, NUMBERS = 256, 2**27  # texts written at once, and numbers that a state of them may have: 512 MB in fp32


class TextModel:
    """A denoiser that reads and writes text.

    Args:
        denoiser: the network.
        tokenizer: its tokens.
        architecture: its settings.
        recipe: how it was made.
    """

    kind: ClassVar[str] = ""
    how_to_guide: ClassVar[str] = "use one that was"

    def __init__(self, denoiser: Denoiser, tokenizer: Tokenizer, architecture: Architecture, recipe: Recipe) -> None:
        self.denoiser = denoiser.eval()
        self.tokenizer = tokenizer
        self.architecture = architecture
        self.recipe = recipe
        self._graphs: dict[tuple[Any, ...], Captured | CompiledNetwork] = {}

    @property
    def device(self) -> torch.device:
        return self.denoiser.space.device

    def to(self, device: str | torch.device | None = None, *, dtype: torch.dtype | None = None) -> Self:
        """Move the weights, and choose what the network computes in: float32, bfloat16 or float16.

        Everything but the network's matrix products stays as precise as ever, see
        :meth:`dlkit.denoiser.Denoiser.compute_in`. Matrices are rounded for good: read the folder again to go back.

        Raises:
            ValueError: another type.
        """
        if device is not None:
            self.denoiser.to(device)
        if dtype is not None:
            self.denoiser.compute_in(dtype)
        return self

    @property
    def precision(self) -> str:
        """What the network computes in: ``float32``, ``bfloat16`` or ``float16``."""
        return str(self.denoiser.lower or self.denoiser.space.like.dtype).removeprefix("torch.")

    def default_sampler(self, steps: int | None) -> Sampler:
        """The sampler used when none is named."""
        sampler = self.architecture.sampler
        return sampler if steps is None else sampler.replace(steps=steps)

    def choose_sampler(self, sampler: str | dict[str, Any] | Sampler | None, steps: int | None) -> Sampler:
        """Turn what the caller said into a sampler.

        Raises:
            UserError: no such sampler, or a number of steps it cannot take.
        """
        if steps is not None and steps < 1:
            raise UserError(f"steps must be at least 1, not {steps}")
        if sampler is None:
            chosen = self.default_sampler(steps)
        else:
            chosen = from_spec(samplers.registry, sampler)
            if steps is not None:
                chosen = from_spec(samplers.registry, {**chosen.spec(), "steps": steps})
        most = getattr(self.architecture.process.noise_schedule, "steps", None)
        if most is not None and chosen.steps > most:
            raise UserError(f"steps={chosen.steps} is more than the {most} steps this model was trained with")
        chosen.calls(self.architecture.process.noise_schedule)  # refuses what this schedule cannot do, before any work
        return chosen

    def guided(self, scale: float) -> Denoiser:
        """The network with classifier-free guidance; 1 is none.

        Raises:
            UserError: the scale is no number, or the network was never trained without sources.
        """
        if not math.isfinite(scale):
            raise UserError(f"guidance must be a finite number, not {scale}; 1 is none")
        if scale != 1.0 and not self.architecture.is_conditional:
            raise UserError(f"guidance={scale:g}: this {self.kind} has no sources to be led by; leave guidance out")
        if scale != 1.0 and not self.architecture.condition_dropout:
            raise UserError(
                f"guidance={scale:g}: this {self.kind} was never trained without its sources; {self.how_to_guide}"
            )
        return guided(self.denoiser, scale, self.tokenizer.pad_id)

    def calls(self, sampler: Sampler, guidance: float = 1.0) -> int:
        """Network calls of one text."""
        return sampler.calls(self.architecture.process.noise_schedule) * (1 if guidance == 1.0 else 2)

    def at_once(self, wanted: int | None = None) -> int:
        """Texts written at once: as many as are wanted, or 256, fewer if a state [b, l, d] had over 2^27 numbers.

        A sampler holds a few states, and one of one-hot tokens is as large as logits. No text depends on it.
        """
        numbers = self.architecture.seq_len * self.denoiser.space.dim
        return wanted if wanted is not None else min(BATCH, max(1, NUMBERS // numbers))

    def generate(
        self, sources: Sequence[str] | None = None, *, num_samples: int = 1, mbr: int = 0, **options: Any
    ) -> list[list[str]]:
        """Write texts.

        With ``mbr=K``, K candidates are written for each source, and of these minimum Bayes risk chooses one: the text
        that the others agree with most, by sentence BLEU.

        Args:
            sources: texts to write for; None for a model that writes without a source.
            num_samples: texts for each source, or in all.
            mbr: candidates for minimum Bayes risk; 0 chooses nothing.
            options: see :meth:`generate_tokens`.

        Returns:
            for each source its texts, ``num_samples`` or one chosen: what stands between [CLS] and the first [SEP].
            Without sources one list of ``num_samples`` texts; if the model's are packed, a text is all that stands in
            the sequence, marks left out.

        Raises:
            UserError: a source does not fit, there are none and the model needs some, or it takes none and there are
                some, or an argument is out of range.
        """
        count = candidates(num_samples, mbr)
        if mbr and not self.architecture.is_conditional:
            raise UserError(f"mbr={mbr} chooses among texts of a source, and this {self.kind} has none; leave it out")
        texts = self.decoded(self.generate_tokens(sources, num_samples=count, **options))
        return choose_by_mbr(texts) if mbr else texts

    @torch.inference_mode()
    def generate_tokens(
        self,
        sources: Sequence[str] | None = None,
        *,
        num_samples: int = 1,
        steps: int | None = None,
        sampler: str | dict[str, Any] | Sampler | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        decoder: str | dict[str, Any] | Decoder | None = None,
        guidance: float = 1.0,
        compile: bool = False,
        observe: Observer | None = None,
    ) -> list[list[list[int]]]:
        """The tokens of all generated positions, padding included; without sources one list of them.

        All that is random in a text is a function of (seed, source, number of the sample), whatever its batch mates;
        without a source, of (seed, number of the sample).
        The samples of a source begin with different noises as long as the sampler has some: a student of few codes is
        not asked twice for the same text.

        Args:
            sources: texts to write for; None for a model that writes without a source.
            num_samples: texts for each source, or in all.
            steps: network calls; None is the model's own default, for a student the steps it was trained for.
            sampler: name or settings; None is the model's own.
            seed: of the noise, and of what the decoder draws.
            batch_size: texts written at once; None is as many as :meth:`at_once` says.
            decoder: name or settings; None is the model's own.
            guidance: w of classifier-free guidance, see :class:`dlkit.guidance.Guided`; 1 is none, anything else makes
                a second network call of each.
            compile: run compiled code, kept for later calls with the same settings: up to four network calls as one
                graph with their noise, rounding and tokens (:meth:`captured`), of more the network alone. Texts are
                written in batches of one size, a power of two where ``batch_size`` is None. Compiling takes from
                seconds to minutes. Compiled code rounds otherwise: in the last digits, in bf16 in the second, which
                may tip a word. Without a compiler a notice says so.
            observe: called after each network call, see :class:`dlkit.samplers._base.Sampler`.

        Raises:
            UserError: as :meth:`generate`.
        """
        most = self.at_once(batch_size)
        if num_samples < 1 or most < 1:
            raise UserError(f"num_samples and batch_size must be at least 1, not {num_samples} and {most}")
        way = self._way(steps, sampler, decoder, guidance)
        sources = self._checked(sources)
        rows = self._rows(sources, num_samples, seed, way.sampler.starts)
        writer: Writing | CompiledNetwork | Captured = way
        if compile and len(rows) and has_compiler(self.device.type):
            writer = self._compiled(
                way, guidance, most if batch_size else size_for(len(rows), most), observe is not None
            )
        written: list[list[int]] = []
        for part in torch.arange(len(rows)).split(most):
            some = rows.taken(part).to(self.device)
            written += _where(writer.write(some, seed, observe), some.mask)
        return _grouped(written, num_samples)

    def captured(
        self,
        batch_size: int = 1,
        *,
        steps: int | None = None,
        sampler: str | dict[str, Any] | Sampler | None = None,
        decoder: str | dict[str, Any] | Decoder | None = None,
        guidance: float = 1.0,
    ) -> Captured:
        """Noise, network calls, rounding and tokens as one compiled graph: (ids, mask, keys, seed) -> ids.

        :meth:`encode` makes ids and mask, :func:`sample_keys` the keys. It is what ``compile=True`` runs for up to four
        network calls; the other arguments are those of :meth:`generate_tokens`.

        Raises:
            UserError: as :meth:`generate_tokens`, or there are more network calls, or no compiler.
        """
        way = self._way(steps, sampler, decoder, guidance)
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        if way.calls > FEW:
            raise UserError(f"{way.calls} network calls are too many for one graph, which takes {FEW}; set steps={FEW}")
        if not has_compiler(self.device.type):
            raise UserError("captured: there is no compiler here; install one (g++, say), or use generate")
        graph = self._compiled(way, guidance, batch_size, False)
        assert isinstance(graph, Captured)
        return graph

    def _way(self, steps: int | None, sampler: Any, decoder: Any, guidance: float) -> Writing:
        chosen, denoiser = self.choose_sampler(sampler, steps), self.guided(guidance)
        reader: Decoder = self.architecture.decoder if decoder is None else from_spec(decoders.registry, decoder)
        return Writing(denoiser, chosen, reader, self.architecture.is_conditional)

    def _compiled(self, way: Writing, guidance: float, size: int, observed: bool) -> Captured | CompiledNetwork:
        """Compiled code for this way of writing, made once."""
        kind = CompiledNetwork if observed or way.calls > FEW else Captured
        weights = tuple((each.data_ptr(), each._version) for each in self.denoiser.parameters())  # it may hold copies
        key = (kind, size, guidance, self.precision, weights, str(way.sampler.spec()), str(way.decoder.spec()))
        if key not in self._graphs:
            self._graphs[key] = kind(way, size)
        return self._graphs[key]

    def _rows(self, sources: Sequence[str], num_samples: int, seed: int, codes: int | None) -> Rows:
        ids, mask = self.encode(sources)
        keys, starts = sample_keys(sources, num_samples), sample_starts(sources, num_samples, codes or 1, seed)
        wanted = torch.arange(len(sources)).repeat_interleave(num_samples)
        return Rows(ids[wanted], mask[wanted], keys, starts)

    def read(
        self, x: Float[Tensor, "b l d"], keys: Int[Tensor, " b"], seed: int = 0, decoder: Decoder | None = None
    ) -> Int[Tensor, "b l"]:
        """The tokens of states; what a decoder draws is a function of (seed, key, position).

        Args:
            x: states.
            keys: of the samples, from :func:`sample_keys`.
            seed: of generation.
            decoder: None is the model's own.
        """
        u = Stream(seed, "decode").uniform(keys.to(x.device), x.shape[1])
        return (decoder or self.architecture.decoder).decode(x, self.denoiser.space, u)

    def _checked(self, sources: Sequence[str] | None) -> Sequence[str]:
        """The sources of a call; of a model that writes without any, the empty one."""
        if not self.architecture.is_conditional:
            if sources is not None:
                raise UserError(f"this {self.kind} writes without a source; leave sources out and say num_samples")
            return [""]
        if sources is None:
            raise UserError(f"this {self.kind} writes for sources; give a list of texts")
        if isinstance(sources, str):
            raise UserError("sources must be a list of texts, not one text; write [text]")
        return sources

    def encode(self, sources: Sequence[str]) -> tuple[Int[Tensor, "n l"], Bool[Tensor, "n l"]]:
        """Rows with the sources laid out, and where they are free: everywhere, if nothing is given."""
        arch, tok = self.architecture, self.tokenizer
        if not arch.is_conditional:
            ids = torch.full((len(sources), arch.seq_len), tok.pad_id)
            return ids, torch.ones_like(ids, dtype=torch.bool)
        merged = [
            merge_source(
                ids, arch.seq_len, sep_id=tok.sep_id, pad_id=tok.pad_id, overlong=arch.overlong, where=f"source {n + 1}"
            )
            for n, ids in enumerate(tok.encode_batch(list(sources)))
        ]
        ids = torch.tensor([row for row, _ in merged], dtype=torch.int64).reshape(-1, arch.seq_len)
        mask = torch.tensor([row for _, row in merged], dtype=torch.bool).reshape(-1, arch.seq_len)
        return ids, mask

    def decoded(self, groups: Sequence[Sequence[list[int]]]) -> list[list[str]]:
        """The texts of tokens that were generated: of all of them if texts are packed, else of those up to the end."""
        packed = self.architecture.layout == "packed"
        texts = iter(
            self.tokenizer.decode_batch(ids if packed else self.until_end(ids) for group in groups for ids in group)
        )
        return [[next(texts) for _ in group] for group in groups]

    def sequences(self, groups: Sequence[Sequence[list[int]]]) -> Sequences:
        """The whole sequences of a model that writes without a source, decoded with every mark."""
        ids = [ids for group in groups for ids in group]
        return Sequences(ids, self.tokenizer.backend.decode_batch(ids, skip_special_tokens=False))

    def until_end(self, ids: list[int]) -> list[int]:
        """The text between a leading [CLS] mark and the first [SEP]."""
        ids = ids[1:] if ids and ids[0] == self.tokenizer.cls_id else ids
        return list(itertools.takewhile(lambda token: token != self.tokenizer.sep_id, ids))

    def fingerprint(self) -> str:
        """A hash of the weights and the settings; a plugin's version does not change it."""
        settings = {key: value for key, value in self.config().items() if key != "plugins"}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, tensor in sorted(self.denoiser.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def config(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        return {
            "format": 1,
            "kind": self.kind,
            **self.architecture.model_dump(mode="json"),
            "versions": {"dlkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
            "plugins": plugins_of(self.architecture, self.recipe),
        }

    def write(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write the model's files into an existing folder; ``dtype`` converts floating weights on the way."""
        state = {
            name: (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).detach().cpu().contiguous()
            for name, tensor in self.denoiser.state_dict().items()
            if name not in aliases(self.denoiser)
        }
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        write_json(folder / "config.json", self.config())
        self.recipe.to_yaml(folder / RECIPE)
        self.tokenizer.save(folder)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the model folder atomically. Raises ``UserError`` where it cannot be written."""
        with atomic_folder(folder) as temporary:
            self.write(temporary, dtype)

    @classmethod
    def from_pretrained(cls, path: str | Path, device: str = "cpu", *, dtype: torch.dtype | None = None) -> Self:
        """Read a model folder, or the run folder that holds one; see :meth:`to`.

        Raises:
            UserError: the folder is missing, of another kind, incomplete or damaged.
        """
        return cls(*read_model(model_folder(path), cls.kind)).to(device, dtype=dtype)


def sample_keys(sources: Sequence[str], num_samples: int) -> Int[Tensor, " n"]:
    """What the random draws of each text depend on besides the seed; the samples of a source stand together."""
    hashes = [hash64(f"{source}\x1f{k}") for source in sources for k in range(num_samples)]
    return torch.tensor(hashes, dtype=torch.int64)


def sample_starts(sources: Sequence[str], num_samples: int, codes: int, seed: int) -> Int[Tensor, " n"]:
    """Which code each text begins with, drawn without replacement for each source."""
    owners = torch.tensor([hash64(source) for source in sources], dtype=torch.int64)
    return taken_in_turn(owners, num_samples, codes, Stream(seed, "generate/codes")).flatten()


def candidates(num_samples: int, mbr: int) -> int:
    """Texts to write for each source, so that minimum Bayes risk can choose one of ``mbr``, or all count.

    Raises:
        UserError: there is nothing to choose from, or both numbers ask for several texts and differ.
    """
    if mbr < 0 or mbr == 1:
        raise UserError(f"mbr={mbr}: give 0 for none, or at least 2 candidates to choose from")
    if mbr and num_samples not in (1, mbr):
        raise UserError(f"mbr={mbr} with num_samples={num_samples}: give one of the two; mbr is the number of texts")
    return mbr or num_samples


def _where(tokens: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> list[list[int]]:
    """The tokens at the True positions of each row."""
    pairs = zip(tokens.tolist(), mask.tolist(), strict=True)
    return [list(itertools.compress(row, keep)) for row, keep in pairs]


def _grouped(items: list[_T], size: int) -> list[list[_T]]:
    return [items[k : k + size] for k in range(0, len(items), size)]
