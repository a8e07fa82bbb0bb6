"""Generative perplexity."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field

from dlkit.errors import UserError
from dlkit.metrics import register
from dlkit.metrics._base import Cases, Metric
from dlkit.metrics._causal import Judge


@register(
    "gen_ppl",
    description="perplexity of the texts under a pretrained causal language model",
    paper="Jelinek et al. 1977; protocol flm: FLM (arXiv 2602.16813), after MDLM (Sahoo et al. 2024, arXiv 2406.07524)",
)
class GenPpl(Metric):
    """exp of the mean of -ln p(token | tokens before it) over all tokens of all texts that count.

    ``plain``: of each text all tokens, the first one given a begin token, and the end token after them; so the
    probability is that of whole texts, and an empty text costs its early end. A text that is cut has no end.

    ``flm``: of the whole sequences that a model without sources wrote, decoded with every mark. They are tokenised as
    the judge's tokenizer does, cut to ``max_length`` and padded with end tokens to the longest; what counts is every
    token but the first that is no end token, and the first end token, which may be padding. Sequences beyond a multiple
    of ``batch_size`` are dropped (fewer than ``batch_size`` are one batch).

    Low values are no proof of quality: a text that repeats itself has a low perplexity. Read it beside ``entropy``.

    Attributes:
        model: the judge: a name on the model hub, or a folder with a causal model and its tokenizer.
        protocol: ``plain`` or ``flm``.
        max_length: tokens of a text, marks included; None is as many as the judge takes. FLM's is the sequence length
            of the model that wrote (128 for LM1B, 1024 for OpenWebText).
        batch_size: texts judged at once.

    Raises:
        UserError: the judge cannot be had or takes fewer tokens; no token counts; or ``flm`` is asked of texts whose
            sequences are not known.
    """

    model: str = "gpt2-large"
    protocol: Literal["plain", "flm"] = "plain"
    max_length: int | None = Field(default=None, ge=2)
    batch_size: int = Field(default=8, ge=1)

    higher_is_better: ClassVar[bool] = False
    on_request: ClassVar[bool] = True

    @cached_property
    def judge(self) -> Judge:
        """The model, read once."""
        return Judge.load(self.model)

    def identity(self) -> dict[str, Any]:
        """The settings, with a hash of the judge's weights and the version of the library that runs it."""
        self.judge.length(self.max_length)
        return {**self.model_dump(mode="json"), **self.judge.identity()}

    def score(self, cases: Cases) -> float:
        self.require(cases)
        if self.protocol == "flm":
            if cases.sequences is None:
                raise UserError(
                    "metric 'gen_ppl': protocol flm is of whole sequences that a model without sources wrote, and they "
                    "are not known of these texts; set protocol=plain"
                )
            return self._flm(cases.sequences.texts)
        return self._plain([text for samples in cases.hypotheses for text in samples])

    def _plain(self, texts: Sequence[str]) -> float:
        judge, length = self.judge, self.judge.length(self.max_length)
        rows = [[judge.begin, *judge.ids(text), judge.end][:length] for text in texts]
        found = list(judge.surprises(rows, self.batch_size))
        return _perplexity([float(values.sum()) for values in found], sum(len(values) for values in found))

    def _flm(self, texts: Sequence[str]) -> float:
        judge, length, size = self.judge, self.judge.length(self.max_length), min(self.batch_size, len(texts))
        rows = [judge.ids_as_ever(text)[:length] for text in texts]
        longest = max(map(len, rows))
        if longest < 2:
            raise UserError("metric 'gen_ppl': no text has two tokens, so there is nothing to score")
        rows = sorted(rows[: len(rows) // size * size], key=len)  # little padding
        nats, count = [], 0
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            width = min(longest, len(part[-1]) + 1)  # one end token, if there is room: no other counts
            padded = [[*row, *[judge.end] * (width - len(row))] for row in part]
            for row, values in zip(padded, judge.batch(padded, [len(row) for row in part]), strict=True):
                counted = [place for place in range(1, width) if self._counts(row, place)]
                nats.append(float(values[[place - 1 for place in counted]].sum()))
                count += len(counted)
        return _perplexity(nats, count)

    def _counts(self, row: Sequence[int], place: int) -> bool:
        """Whether a token is no end token, or the first of them."""
        return row[place] != self.judge.end or row.index(self.judge.end) == place


def _perplexity(nats: Sequence[float], count: int) -> float:
    if not count:
        raise UserError("metric 'gen_ppl': the texts have no token that counts")
    return math.exp(math.fsum(nats) / count)
