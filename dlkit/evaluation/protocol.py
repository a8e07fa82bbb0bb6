"""What exactly was measured, stored beside every number."""

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch

from dlkit import __version__, decoders, metrics
from dlkit.data.pairs import fingerprint
from dlkit.decoders._base import Decoder
from dlkit.errors import UserError
from dlkit.generator import TextModel
from dlkit.part import from_spec
from dlkit.recipe import Spec

Name = Literal["dlkit", "diffuseq"]
ReferenceText = Literal["re-decoded ids", "raw"]
TIMED = (
    "seconds_per_sample: wall time of one generate() of all texts, text in to text out, without warm-up, "
    "divided by the number of texts"
)


class DataIdentity(Spec):
    """Which texts.

    Attributes:
        folder: the data folder's name, without where it lies.
        split: train, valid or test.
        sha256: of the split's file.
    """

    folder: str
    split: str
    sha256: str


class Protocol(Spec):
    """How the numbers of a report came about.

    The protocols ``dlkit`` and ``diffuseq`` measure alike: DiffuSeq's metrics on re-decoded references.

    Attributes:
        name: of the protocol.
        data: which texts; the first ``n_sources`` of the split.
        num_samples, mbr: texts written for each source, and how many of them minimum Bayes risk chose from (0: none).
        seed, batch_size, decoder: of generation.
        device, threads, precision: the machine.
        reference_text: ``re-decoded ids`` passes references (and the sources that copies are told by) through the
            model's tokenizer and truncation, so that case and spacing equal the output's, as DiffuSeq does.
        metrics: how each metric is defined, and whose version of it this is.
        versions: of the libraries.
        timed: what ``seconds_per_sample`` means.
    """

    name: Name = "dlkit"
    data: DataIdentity
    n_sources: int
    num_samples: int
    mbr: int
    seed: int
    batch_size: int
    decoder: dict[str, Any]
    device: str
    threads: int
    precision: str
    reference_text: ReferenceText
    metrics: dict[str, str]
    versions: dict[str, str]
    timed: str = TIMED

    @classmethod
    def of(
        cls,
        model: TextModel,
        data: str | Path,
        split: str,
        n_sources: int,
        *,
        name: str = "dlkit",
        num_samples: int = 1,
        mbr: int = 0,
        seed: int = 0,
        batch_size: int = 256,
        decoder: str | Mapping[str, Any] | Decoder | None = None,
        reference_text: ReferenceText = "re-decoded ids",
    ) -> Self:
        """The protocol of an evaluation with these settings on this machine.

        Raises:
            UserError: there is no such protocol, decoder or split.
        """
        if name not in get_args(Name):
            raise UserError(f"there is no protocol {name!r}; choose one of {', '.join(get_args(Name))}")
        chosen: Decoder = from_spec(decoders.registry, decoder or model.architecture.decoder)
        return cls(
            name=name,  # type: ignore[arg-type]
            data=DataIdentity(folder=Path(data).resolve().name, split=split, sha256=fingerprint(data, split)),
            n_sources=n_sources,
            num_samples=mbr or num_samples,
            mbr=mbr,
            seed=seed,
            batch_size=batch_size,
            decoder=chosen.spec(),
            device=device_name(model.device),
            threads=torch.get_num_threads(),
            precision=str(model.denoiser.space.table.dtype).removeprefix("torch."),
            reference_text=reference_text,
            metrics=metric_definitions(),
            versions=versions(),
        )


def metric_definitions() -> dict[str, str]:
    """For each registered metric what it is, and the distribution and version that computed it."""
    entries = [metrics.entry(name) for name in metrics.registry.usable()]
    return {entry.name: f"{entry.description} ({_version(entry.origin)})" for entry in entries}


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        "dlkit": __version__,
        "torch": torch.__version__,
        "tokenizers": metadata.version("tokenizers"),
        "sacrebleu": metadata.version("sacrebleu"),
        "python": platform.python_version(),
    }


def device_name(device: torch.device) -> str:
    """The model of the processor or GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _version(origin: str) -> str:
    if origin == "dlkit":
        return f"dlkit {__version__}"
    try:
        return f"{origin} {metadata.version(origin)}"
    except metadata.PackageNotFoundError:  # registered by a script, not by a distribution
        return origin
