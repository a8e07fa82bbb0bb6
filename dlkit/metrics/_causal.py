"""What a pretrained causal language model thinks of texts."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.errors import UserError
from dlkit.metrics._pretrained import identity, quiet, read

CONTEXT = ("n_positions", "max_position_embeddings", "n_ctx")  # what configurations call the longest sequence


class Judge:
    """A causal language model with its tokenizer; see :meth:`load`.

    Attributes:
        begin, end: the tokens that begin and end a text: BOS or else [CLS] or EOS, and EOS or else [SEP].
        context: tokens that it takes at once.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        config: Any = model.config
        self.context: int = min([getattr(config, key, None) or 10**9 for key in CONTEXT])
        self.end = self._first("eos", "sep")
        self.begin = self._first("bos", "cls", "eos")

    @classmethod
    def load(cls, name: str) -> Self:
        """Read a model.

        Args:
            name: on the model hub, or of a folder.

        Raises:
            UserError: model or tokenizer cannot be had, lacks weights or an end token, or do not belong together.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        how = {"dtype": torch.float32, "output_loading_info": True}
        tokenizer = read(name, AutoTokenizer.from_pretrained)
        loaded: Any = read(name, lambda place, **where: AutoModelForCausalLM.from_pretrained(place, **how, **where))
        model, found = loaded
        missing = sorted(found["missing_keys"])
        if missing:
            raise UserError(f"{name} lacks the weights {', '.join(missing[:3])}; give a folder with a whole model")
        vocabulary = model.get_input_embeddings().num_embeddings
        if len(tokenizer) > vocabulary:
            raise UserError(f"{name}: its tokenizer has {len(tokenizer)} ids, its network {vocabulary}; give one pair")
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, name)

    def identity(self) -> dict[str, Any]:
        """What tells this model from others."""
        return identity(self.model, self.name)

    def _first(self, *roles: str) -> int:
        ids = [getattr(self.tokenizer, f"{role}_token_id", None) for role in roles]
        known = [number for number in ids if number is not None]
        if not known:
            raise UserError(f"{self.name}: its tokenizer has no {' or '.join(roles)} token, which texts need here")
        return known[0]

    def length(self, wanted: int | None) -> int:
        """Tokens of a text that are scored. Raises ``UserError`` if the model does not take as many as wanted."""
        if wanted is not None and wanted > self.context:
            raise UserError(f"{self.name} takes {self.context} tokens; set max_length={self.context} or less")
        return wanted or self.context

    def ids(self, text: str) -> list[int]:
        """A text's tokens, without any that begin or end it."""
        with quiet():  # that a text is longer than the model takes: it is cut
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def ids_as_ever(self, text: str) -> list[int]:
        """A text's tokens with whatever the tokenizer puts around them."""
        with quiet():
            return self.tokenizer(text)["input_ids"]

    def surprises(self, rows: Sequence[Sequence[int]], batch_size: int) -> Iterator[Float[Tensor, " n"]]:
        """For each row -ln p of its second, third, ... token given those before it, in ``batch_size`` rows at once."""
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))  # little padding
        found: dict[int, Tensor] = {}
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            padded = [[*rows[row], *[self.end] * (len(rows[part[-1]]) - len(rows[row]))] for row in part]
            values = self.batch(padded, [len(rows[row]) for row in part])
            found |= {row: value[: len(rows[row]) - 1] for row, value in zip(part, values, strict=True)}
        yield from (found[row] for row in range(len(rows)))

    @torch.inference_mode()
    def batch(self, rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> Float[Tensor, "b n"]:
        """-ln p of the second, third, ... token of rows of equal length; what stands beyond ``lengths`` is not read."""
        device = next(self.model.parameters()).device
        ids: Int[Tensor, "b l"] = torch.tensor([list(row) for row in rows], device=device)
        mask = torch.arange(ids.shape[1]) < torch.tensor(list(lengths))[:, None]
        logits = self.model(input_ids=ids, attention_mask=mask.long().to(device)).logits[:, :-1]
        return F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").double().cpu()
