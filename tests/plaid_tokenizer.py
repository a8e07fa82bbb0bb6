"""A tokenizer of Plaid's kind, of any size: bytes and pieces of them, and one special token, id 0."""

from itertools import chain, count, islice, product
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

END = "<|endoftext_R9VQqF0Ag7|>"


def write_tokenizer(file: Path, size: int) -> None:
    """Write one of so many ids; fewer than 257 leave out some bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = map("".join, chain.from_iterable(product(letters, repeat=length) for length in count(1)))
    pieces = list(islice(words, size - 1))
    vocab = {token: number for number, token in enumerate([END, *pieces])}
    merges = [(word[:-1], word[-1]) for word in pieces if len(word) > 1]
    backend = Tokenizer(models.BPE(vocab, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END])
    backend.save(str(file))
