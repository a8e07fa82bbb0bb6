"""Text to ids and back.

A tokenizer is a file of the ``tokenizers`` library, a vocabulary list, a name on the model hub, or is trained on the
data. All give sequences that begin with one special id and end with another, as DiffuSeq expects.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit.data.hub import from_hub
from dlkit.errors import UserError
from dlkit.files import write_text

if TYPE_CHECKING:
    import tokenizers

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LEAST_SIZE = len(SPECIALS) + 2  # one character, at the beginning of a word and inside one
DIFFUSEQ_SPECIALS = ("[START]", "[END]", "[UNK]", "[PAD]")  # ids 0 to 3 of DiffuSeq's own vocabularies
DIFFUSION_LM_SPECIALS = ("START", "END", "UNK", "PAD")  # the same in Diffusion-LM's
END_OF_TEXT = "<|endoftext"  # GPT-2's only special token, and Plaid's, which has more letters; it serves every role
OWN_ROLES = ("cls", "sep", "unk", "pad")  # what ids 0 to 3 are for
TIDY = {f" {mark}": mark for mark in (".", "?", "!", ",")} | {" ' ": "'"}
TIDY |= {f" {ending}": ending for ending in ("n't", "'m", "'s", "'ve", "'re")}
ROLES = {
    "pad": ("[PAD]", "<pad>"),
    "cls": ("[CLS]", "[START]", "<s>"),
    "sep": ("[SEP]", "[END]", "</s>"),
    "unk": ("[UNK]", "<unk>"),
}
FORMS = (
    "give a tokenizer.json, a vocab.txt, a vocab.json, a folder with one of them, train:wordpiece:8192, "
    "train:word:1000, or a hub name like bert-base-uncased"
)


class Tokenizer:
    """A tokenizer with its four special ids.

    Args:
        backend: a tokenizer of the ``tokenizers`` library; its truncation, padding and template are reset.
        specials: which token is ``pad``, ``cls`` (begins a sequence), ``sep`` (ends one) and ``unk``; where it does not
            say, the usual names are looked for, and then a single ``<|endoftext|>``, which may have several roles.

    Attributes:
        vocab_size: number of ids, which is the largest id + 1.
        pad_id, cls_id, sep_id, unk_id: the special ids.

    Raises:
        UserError: the vocabulary lacks one of the four.
    """

    def __init__(self, backend: "tokenizers.Tokenizer", specials: dict[str, str] | None = None) -> None:
        from tokenizers import decoders, processors

        vocab = backend.get_vocab(with_added_tokens=True)
        self.specials = {role: _special(vocab, role, (specials or {}).get(role)) for role in ROLES}
        self.vocab_size = max(vocab.values()) + 1
        self.pad_id, self.cls_id, self.sep_id, self.unk_id = (vocab[self.specials[role]] for role in ROLES)
        cls, sep = self.specials["cls"], self.specials["sep"]
        backend.add_special_tokens(list(self.specials.values()))
        backend.no_truncation()
        backend.no_padding()
        backend.post_processor = processors.BertProcessing((sep, self.sep_id), (cls, self.cls_id))
        if isinstance(backend.decoder, decoders.WordPiece):  # its clean-up would glue some punctuation to words
            backend.decoder = decoders.WordPiece(prefix=backend.decoder.prefix, cleanup=False)
        self.backend = backend

    def encode(self, text: str) -> list[int]:
        """Ids of a text between the two special ids: ``[CLS] ... [SEP]``."""
        return self.backend.encode(text).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """:meth:`encode` of each text."""
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts))]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids: word pieces joined, words separated by single blanks, punctuation left apart.

        Padding, begin and end tokens are dropped wherever they stand. An unknown word stays visible as ``[UNK]``: it is
        a mistake of the writer, and dropping it could turn a wrong sentence into a right one.
        """
        return self.backend.decode(self._kept(ids), skip_special_tokens=False)

    def decode_batch(self, rows: Iterable[Iterable[int]]) -> list[str]:
        """:meth:`decode` of each row."""
        return self.backend.decode_batch([self._kept(row) for row in rows], skip_special_tokens=False)

    def decode_marked(self, ids: Iterable[int]) -> str:
        """The text of some ids as DiffuSeq's decoding program writes it: all marks but the padding at the end.

        Whole words stand between single blanks, ``@@`` and ``__`` joining pieces. Word pieces are tidied as the
        transformers library did when DiffuSeq was published: no blank before punctuation and English contractions.
        """
        return self.decode_marked_batch([ids])[0]

    def decode_marked_batch(self, rows: Iterable[Iterable[int]]) -> list[str]:
        """:meth:`decode_marked` of each row."""
        texts = self.backend.decode_batch([self._unpadded(row) for row in rows], skip_special_tokens=False)
        return [self._tidied(text) for text in texts]

    def _unpadded(self, ids: Iterable[int]) -> list[int]:
        kept = list(map(int, ids))
        while kept and kept[-1] == self.pad_id:
            kept.pop()
        return kept

    def _tidied(self, text: str) -> str:
        if self.has_own_words:
            return text.replace("__ ", "").replace("@@ ", "")
        if self._joins_pieces:
            for apart, together in TIDY.items():
                text = text.replace(apart, together)
        return text

    @cached_property
    def _joins_pieces(self) -> bool:
        from tokenizers import decoders

        return isinstance(self.backend.decoder, decoders.WordPiece)

    @cached_property
    def has_own_words(self) -> bool:
        """Whether this is one of DiffuSeq's own vocabularies: words between blanks, marks as ids 0 to 3."""
        from tokenizers import models, pre_tokenizers

        return (
            isinstance(self.backend.model, models.WordLevel)
            and isinstance(self.backend.pre_tokenizer, pre_tokenizers.WhitespaceSplit)
            and self.backend.normalizer is None
            and (self.cls_id, self.sep_id, self.unk_id, self.pad_id) == (0, 1, 2, 3)
        )

    def vocabulary(self) -> dict[str, int]:
        """Every token with its id, in order of the ids."""
        vocab = self.backend.get_vocab(with_added_tokens=True)
        return dict(sorted(vocab.items(), key=lambda item: item[1]))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``; ``transformers.AutoTokenizer`` reads them too."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **{f"{role}_token": token for role, token in self.specials.items()},
        }
        write_text(Path(folder) / "tokenizer.json", self.backend.to_str(pretty=True))
        write_text(Path(folder) / "tokenizer_config.json", json.dumps(config, indent=2))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Read a ``tokenizer.json``, a ``vocab.txt``, a ``vocab.json`` or a folder that holds one of them.

        A vocabulary list with ``[CLS]`` and ``[SEP]`` is BERT's (word pieces, lower case), any other DiffuSeq's own:
        whole words between blanks, after ``[START] [END] [UNK] [PAD]`` as ids 0 to 3, which the list may leave out. A
        ``vocab.json``, words with their ids, is what DiffuSeq and Diffusion-LM (``START END UNK PAD``) save.

        Raises:
            UserError: there is no such file, it cannot be read, or it lacks special tokens.
        """
        file = _locate(Path(path))
        try:
            if file.suffix == ".txt":
                return _from_vocabulary(file)
            return _from_json(file)
        except UserError as error:
            raise UserError(f"{file}: {error}") from error

    def _kept(self, ids: Iterable[int]) -> list[int]:
        frame = {self.pad_id, self.cls_id, self.sep_id}
        return [i for i in map(int, ids) if i not in frame]


def make_tokenizer(spec: str, texts: Iterable[str] | None = None) -> Tokenizer:
    """The tokenizer that ``spec`` describes.

    Args:
        spec: a path (see :meth:`Tokenizer.load`); ``train:wordpiece:N`` or ``train:word:N`` to make one of at most N
            ids from ``texts``; or a name on the model hub.
        texts: what to train on.

    Raises:
        UserError: ``spec`` is none of these, there is nothing to train on, or the hub has no such tokenizer at hand.
    """
    if spec.startswith("train:"):
        return _train(spec, texts)
    if spec and (Path(spec).exists() or spec.endswith((".json", ".txt")) or spec.startswith((".", "/", "~"))):
        return Tokenizer.load(Path(spec).expanduser())
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", spec):
        return _from_hub(spec)
    raise UserError(f"tokenizer {spec!r} is not understood; {FORMS}")


def train_word(texts: Iterable[str], size: int) -> Tokenizer:
    """Whole words, lower-cased: the special tokens and the most frequent words, ``size`` in all, ties by alphabet."""
    from tokenizers import models

    counts = _count_words(texts)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    vocab = {token: i for i, token in enumerate([*SPECIALS, *words][:size])}
    return Tokenizer(_bert_like(models.WordLevel(vocab, unk_token="[UNK]")))


def train_wordpiece(texts: Iterable[str], size: int) -> Tokenizer:
    """Word pieces of lower-cased words, at most ``size`` with the special tokens.

    Equal texts, in whatever order, give equal vocabularies. Words with characters beyond the thousand most frequent (or
    as many as fit half of ``size``) are left out and will be unknown.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, trainers

    counts = _without_rare_characters(_count_words(texts), limit=min(1000, (size - len(SPECIALS)) // 2))
    # The trainer numbers continuation characters in the order of a randomly seeded hash table, and its ties go by
    # number. Naming them beforehand, as if they were special tokens, fixes the numbers and with them the result.
    continuations = sorted({f"##{char}" for word in counts for char in word[1:]})
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[*SPECIALS, *continuations], show_progress=False
    )
    scratch = Backend(models.WordPiece(unk_token="[UNK]"))
    scratch.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    scratch.train_from_iterator(counts.elements(), trainer)
    return Tokenizer(_bert_like(models.WordPiece(scratch.get_vocab(), unk_token="[UNK]")))


TRAINERS = {"wordpiece": train_wordpiece, "word": train_word}


def _train(spec: str, texts: Iterable[str] | None) -> Tokenizer:
    match = re.fullmatch(r"train:(\w+):(\d+)", spec)
    if match is None or match[1] not in TRAINERS:
        raise UserError(f"tokenizer {spec!r} is not understood; {FORMS}")
    if int(match[2]) < LEAST_SIZE:
        raise UserError(f"tokenizer {spec!r}: {len(SPECIALS)} ids go to special tokens; ask for at least {LEAST_SIZE}")
    if texts is None:
        raise UserError(f"tokenizer {spec!r} needs texts to train on; give data or a trained tokenizer")
    return TRAINERS[match[1]](texts, int(match[2]))


def _count_words(texts: Iterable[str]) -> Counter[str]:
    from tokenizers import normalizers, pre_tokenizers

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    if not counts:
        raise UserError("there are no words to train a tokenizer on; give data with text")
    return counts


def _without_rare_characters(counts: Counter[str], limit: int) -> Counter[str]:
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for char in word:
            characters[char] += count
    kept = set(sorted(characters, key=lambda char: (-characters[char], char))[:limit])
    return Counter({word: counts[word] for word in sorted(counts) if kept.issuperset(word)})


def _bert_like(model: Any) -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    backend = Backend(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if isinstance(model, models.WordPiece):
        backend.decoder = decoders.WordPiece(cleanup=False)
    backend.add_special_tokens(list(SPECIALS))
    return backend


def _locate(path: Path) -> Path:
    candidates = [path / name for name in ("tokenizer.json", "vocab.txt", "vocab.json")] if path.is_dir() else [path]
    found = [file for file in candidates if file.is_file()]
    if not found:
        raise UserError(f"{path}: no tokenizer there; {FORMS}")
    return found[0]


def _from_json(file: Path) -> Tokenizer:
    from tokenizers import Tokenizer as Backend

    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text)
        if _numbers_words(content):
            return _from_numbered(content)
        backend = Backend.from_str(text)
    except UserError:
        raise
    except Exception as error:  # the library raises bare Exception on anything it cannot read
        raise UserError(f"not a tokenizer of the tokenizers library ({error}); {FORMS}") from error
    config = file.with_name("tokenizer_config.json")
    return Tokenizer(backend, _named_specials(config) if config.is_file() else None)


def _numbers_words(content: Any) -> bool:
    return isinstance(content, dict) and bool(content) and all(type(value) is int for value in content.values())


def _from_numbered(vocab: dict[str, int]) -> Tokenizer:
    words = sorted(vocab, key=lambda word: vocab[word])
    if [vocab[word] for word in words] != list(range(len(words))):
        raise UserError(f"its ids are not 0 to {len(words) - 1}, each once; restore the file from a copy")
    if tuple(words[: len(DIFFUSEQ_SPECIALS)]) in (DIFFUSEQ_SPECIALS, DIFFUSION_LM_SPECIALS):
        return _whitespace_words(words)
    if {"[CLS]", "[SEP]"} <= vocab.keys():
        return _bert_words(words)
    raise UserError(f"the vocabulary does not begin with {' '.join(DIFFUSEQ_SPECIALS)} as ids 0 to 3; add them")


def _named_specials(config: Path) -> dict[str, str]:
    try:
        settings = json.loads(config.read_bytes())
        named = {role: settings.get(f"{role}_token") for role in ROLES}
    except (ValueError, AttributeError) as error:
        raise UserError(f"its {config.name} is not a JSON object ({error}); mend or remove it") from error
    tokens = {role: token.get("content") if isinstance(token, dict) else token for role, token in named.items()}
    return {role: token for role, token in tokens.items() if token}


def _from_vocabulary(file: Path) -> Tokenizer:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8; save the file as UTF-8") from error
    words = [_entry(line, number) for number, line in enumerate(lines, 1)]
    diffuseq = not {"[CLS]", "[SEP]"} <= set(words)
    if diffuseq and tuple(words[: len(DIFFUSEQ_SPECIALS)]) != DIFFUSEQ_SPECIALS:
        words = [*DIFFUSEQ_SPECIALS, *words]
    repeated = [word for word, count in Counter(words).items() if count > 1]
    if repeated:
        raise UserError(f"the vocabulary lists {repeated[0]!r} more than once; keep one line of each")
    return _whitespace_words(words) if diffuseq else _bert_words(words)


def _entry(line: str, number: int) -> str:
    """The token of a line; some lists have a count behind it."""
    token, *rest = line.split() or [""]
    if len(rest) > 1 or (rest and not rest[0].replace(".", "", 1).isdigit()):
        raise UserError(
            f"line {number} holds several words ({line.strip()[:40]!r}), so it is no list of tokens; {FORMS}"
        )
    return token


def _bert_words(words: list[str]) -> Tokenizer:
    from tokenizers import models

    vocab = {word: i for i, word in enumerate(words)}
    absent = [token for token in SPECIALS if token not in vocab and token != "[MASK]"]
    if absent:
        raise UserError(f"the vocabulary lacks {', '.join(absent)}; add a line for each")
    return Tokenizer(_bert_like(models.WordPiece(vocab, unk_token="[UNK]")))


def _whitespace_words(words: list[str]) -> Tokenizer:
    """Words between blanks; the first four are begin, end, unknown and padding."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    specials: dict[str, str] = dict(zip(OWN_ROLES, words, strict=False))
    backend = Backend(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=specials["unk"]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokenizer(backend, specials)


def _from_hub(name: str) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        loaded = from_hub(name, AutoTokenizer.from_pretrained)
    except Exception as error:  # offline, unknown and broken names end in a dozen types of error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = f"tokenizer {name!r} is no file here and cannot be had from the hub ({reason}); {FORMS}"
        raise UserError(message) from error
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"tokenizer {name!r} has no fast form, which is needed here; {FORMS}")
    named = {role: getattr(loaded, f"{role}_token", None) for role in ROLES}
    return Tokenizer(backend, {role: str(token) for role, token in named.items() if token})


def _special(vocab: dict[str, int], role: str, named: str | None) -> str:
    wanted = (named,) if named else ROLES[role]
    for token in wanted:
        if token in vocab:
            return token
    ends = [token for token in vocab if token.startswith(END_OF_TEXT)] if named is None else []
    if len(ends) == 1:
        return ends[0]
    raise UserError(f"the tokenizer has no {role} token ({' or '.join(wanted)}); add one to its vocabulary")
