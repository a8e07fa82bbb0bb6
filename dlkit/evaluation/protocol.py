"""What exactly was measured, stored beside every number."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Self

import torch

from dlkit import __version__, decoders, metrics
from dlkit.data.splits import fingerprint
from dlkit.decoders._base import Decoder
from dlkit.errors import UserError
from dlkit.generator import TextModel
from dlkit.metrics._base import Metric, usual_metrics
from dlkit.part import from_spec
from dlkit.recipe.settings import Spec

Name = Literal["diffuseq", "dlkit", "raw"]
ReferenceText = Literal["re-decoded ids", "raw", "as in the files"]
TIMED = (
    "seconds_per_sample: wall time of one generate() of all texts, text in to text out, without warm-up, "
    "divided by the number of texts"
)


@dataclass(frozen=True)
class Rules:
    """What the name of a protocol settles.

    Attributes:
        reference_text: ``re-decoded ids`` passes references (and the sources that copies are told by) through the
            model's tokenizer and truncation, so that case and spacing equal the output's, as DiffuSeq does; ``raw``
            takes them as the data has them.
        diversity_samples: how many of a source's samples self-BLEU and div-4 compare, the first ones; None: all.
        of_sources: nothing of it applies to texts without a source.
    """

    reference_text: ReferenceText
    diversity_samples: int | None = None
    of_sources: bool = False

    def compared(self, num_samples: int) -> int:
        """How many of ``num_samples`` samples self-BLEU and div-4 compare."""
        return min(num_samples, self.diversity_samples or num_samples)


PROTOCOLS: dict[Name, Rules] = {
    "diffuseq": Rules(
        "re-decoded ids", diversity_samples=3, of_sources=True
    ),  # of the 10 candidates for minimum Bayes risk, say
    "dlkit": Rules("re-decoded ids"),
    "raw": Rules("raw"),
}


def rules(name: str, sources: bool = True) -> Rules:
    """The rules of a protocol.

    Raises:
        UserError: there is none of that name, or it is one of texts with a source, and these have none.
    """
    if name not in PROTOCOLS:
        raise UserError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    if PROTOCOLS[name].of_sources and not sources:
        others = " or ".join(other for other, settled in PROTOCOLS.items() if not settled.of_sources)
        raise UserError(f"protocol {name!r} is of texts with a source, and these have none; choose {others}")
    return PROTOCOLS[name]


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


class Scoring(Spec):
    """How texts were scored, whoever wrote them.

    Attributes:
        name: of the protocol; see :data:`PROTOCOLS`.
        n_sources: how many; the first ones. 0 for texts without a source.
        held_out_texts: how many texts those without a source are compared with.
        num_samples, mbr: texts of each source, and how many of them minimum Bayes risk chose from (0: none).
        diversity_samples: how many of them self-BLEU and div-4 compared.
        reference_text: see :class:`Rules`.
        metrics: how each metric is defined, and whose version of it this is.
        settings: of the metrics that have any; of a model that a metric uses also what tells it from others.
        versions: of the libraries.
    """

    name: Name = "dlkit"
    n_sources: int
    held_out_texts: int = 0
    num_samples: int
    mbr: int
    diversity_samples: int
    reference_text: ReferenceText
    metrics: dict[str, str]
    settings: dict[str, dict[str, Any]]
    versions: dict[str, str]


class Protocol(Scoring):
    """How the numbers of a report came about.

    Attributes:
        data: which texts.
        seed, batch_size, decoder, guidance: of generation.
        device, threads, precision: the machine.
        timed: what ``seconds_per_sample`` means.
    """

    data: DataIdentity
    seed: int
    batch_size: int
    decoder: dict[str, Any]
    guidance: float = 1.0
    device: str
    threads: int
    precision: str
    timed: str = TIMED

    @classmethod
    def of(
        cls,
        model: TextModel,
        data: str | Path,
        split: str,
        n_sources: int,
        *,
        held_out_texts: int = 0,
        name: str = "dlkit",
        num_samples: int = 1,
        mbr: int = 0,
        seed: int = 0,
        batch_size: int | None = None,
        decoder: str | Mapping[str, Any] | Decoder | None = None,
        guidance: float = 1.0,
        more_metrics: Sequence[Metric] = (),
    ) -> Self:
        """The protocol of an evaluation with these settings on this machine.

        Args:
            batch_size: None is the model's own.
            held_out_texts: that texts without a source were compared with.
            more_metrics: those that were asked for beside the usual ones.

        Raises:
            UserError: there is no such protocol, of such texts, no such decoder or no such split.
        """
        settled, count = rules(name, model.architecture.is_conditional), mbr or num_samples
        chosen: Decoder = from_spec(decoders.registry, decoder or model.architecture.decoder)
        return cls(
            name=name,  # type: ignore[arg-type]
            data=DataIdentity(folder=Path(data).resolve().name, split=split, sha256=fingerprint(data, split)),
            n_sources=n_sources,
            held_out_texts=held_out_texts,
            num_samples=count,
            mbr=mbr,
            diversity_samples=settled.compared(count),
            seed=seed,
            batch_size=model.at_once(batch_size),
            decoder=chosen.spec(),
            guidance=guidance,
            device=device_name(model.device),
            threads=torch.get_num_threads(),
            precision=model.precision,
            reference_text=settled.reference_text,
            metrics=metric_definitions(more_metrics, model.architecture.is_conditional),
            settings=metric_settings(more_metrics, model.architecture.is_conditional),
            versions=versions(),
        )


def joined(usual: Sequence[Metric], more: Sequence[Metric]) -> list[Metric]:
    """The usual metrics and those that were asked for, which take the place of usual ones of their name."""
    return list({metric.registered_name: metric for metric in [*usual, *more]}.values())


def metric_definitions(more: Sequence[Metric] = (), sources: bool = True) -> dict[str, str]:
    """For each metric what it is, and the distribution and version that computed it."""
    entries = [metrics.entry(metric.registered_name) for metric in joined(usual_metrics(sources), more)]
    return {entry.name: f"{entry.description} ({_version(entry.origin)})" for entry in entries}


def metric_settings(more: Sequence[Metric] = (), sources: bool = True) -> dict[str, dict[str, Any]]:
    """The settings of the metrics that have any. Raises ``UserError`` where one names what is not there."""
    found = {metric.registered_name: metric.identity() for metric in joined(usual_metrics(sources), more)}
    return {name: settings for name, settings in found.items() if settings}


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
