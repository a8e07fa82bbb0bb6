"""Vectors of a text's tokens in their context, out of a layer of a pretrained language model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dlkit.errors import UserError
from dlkit.metrics._pretrained import identity, read

# The layers that bert-score 0.3.13 takes: those that agree best with human judgement on WMT 16.
LAYERS = {
    "albert-base-v2": 9,
    "albert-large-v2": 14,
    "albert-xlarge-v2": 13,
    "albert-xxlarge-v2": 8,
    "bert-base-chinese": 8,
    "bert-base-multilingual-cased": 9,
    "bert-base-uncased": 9,
    "bert-large-uncased": 18,
    "deberta-base": 9,
    "deberta-base-mnli": 9,
    "deberta-large": 16,
    "deberta-large-mnli": 18,
    "deberta-v2-xlarge": 10,
    "deberta-v2-xlarge-mnli": 17,
    "deberta-xlarge": 18,
    "deberta-xlarge-mnli": 40,
    "distilbert-base-multilingual-cased": 5,
    "distilbert-base-uncased": 5,
    "distilroberta-base": 5,
    "electra-base-discriminator": 9,
    "electra-large-discriminator": 14,
    "mpnet-base": 8,
    "roberta-base": 10,
    "roberta-large": 17,
    "roberta-large-mnli": 19,
    "xlm-roberta-base": 9,
    "xlm-roberta-large": 17,
}
BLANK_FIRST = ("GPT2", "Roberta")  # tokenizers that read a text's first word like the others only after a blank


@dataclass(frozen=True)
class Words:
    """A text as a model sees it.

    Attributes:
        vectors: of unit length, one for each token, those that begin and end the text included.
        counts: False on the tokens that begin and end a text.
    """

    vectors: Float[Tensor, "n d"]
    counts: Bool[Tensor, " n"]


class Encoder:
    """A pretrained model, cut off after a layer, with its tokenizer; see :meth:`load`."""

    def __init__(self, model: nn.Module, tokenizer: Any, name: str, layer: int) -> None:
        self.model, self.tokenizer, self.name, self.layer = model.eval(), tokenizer, name, layer

    @classmethod
    def load(cls, name: str, layer: int | None = None) -> Self:
        """Read a model.

        Args:
            name: on the model hub, or of a folder.
            layer: how many of its layers to keep; see :class:`dlkit.metrics.bertscore.BertScore`.

        Raises:
            UserError: model or tokenizer cannot be had, lacks weights, or has fewer layers.
        """
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        config = read(name, AutoConfig.from_pretrained)
        tokenizer = read(name, AutoTokenizer.from_pretrained)
        depth = getattr(config, "num_hidden_layers", 0)
        layer = LAYERS.get(Path(name).name, depth) if layer is None else layer
        if not 0 <= layer <= depth or getattr(config, "is_encoder_decoder", False):
            raise UserError(
                f"{name} has no encoder with {layer} layers, but one with {depth}; give another layer or model"
            )
        config.num_hidden_layers = layer
        how = {"config": config, "dtype": torch.float32, "output_loading_info": True}
        model, found = read(name, lambda place, **where: AutoModel.from_pretrained(place, **how, **where))
        missing = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))
        if missing:
            raise UserError(f"{name} lacks the weights {', '.join(missing[:3])}; give a folder with a whole model")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), tokenizer, name, layer)

    def identity(self) -> dict[str, Any]:
        """What tells this model from others: the hash is over the weights up to the layer."""
        return {"layer": self.layer, **identity(self.model, self.name)}

    def read(self, texts: Sequence[str], batch_size: int) -> list[Words]:
        """Each text with blanks at its ends removed and cut to what the model can take."""
        rows = [self._ids(text.strip()) for text in texts]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))  # little padding
        found: dict[int, Words] = {}
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            found |= dict(zip(part, self._words([rows[row] for row in part]), strict=True))
        return [found[row] for row in range(len(rows))]

    def _ids(self, text: str) -> list[int]:
        if text and type(self.tokenizer).__name__.startswith(BLANK_FIRST):
            text = f" {text}"
        longest = min(self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", 512))
        return self.tokenizer(text, truncation=True, max_length=longest)["input_ids"]

    @torch.inference_mode()
    def _words(self, rows: list[list[int]]) -> Iterator[Words]:
        """The vectors of a batch; equal texts get equal ones up to rounding, whatever their batch mates."""
        device = next(self.model.parameters()).device
        length = max(map(len, rows))
        pad = self.tokenizer.pad_token_id or 0
        ids: Int[Tensor, "b l"] = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=device)
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        vectors = nn.functional.normalize(states, dim=-1).cpu()
        ends = torch.tensor([i for i in (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id) if i is not None])
        for row, own in zip(rows, vectors, strict=True):
            yield Words(own[: len(row)], ~torch.isin(torch.tensor(row), ends))
