"""A small world of questions in which the correct paraphrases of every sentence can be listed.

A *meaning* is a question family with a value for each of its two slots; its *forms* are all sentences that ask it. Two
meanings share no form, so whether a generated sentence is right is a matter of looking it up, not of scoring.
"""

import hashlib
import itertools
import json
import os
import random
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dlkit.data.pairs import Pair, write_split
from dlkit.errors import UserError
from dlkit.files import write_text

MARKER = {"grammar": "questions", "version": 1}
HELD_OUT = 150  # meanings of the valid split, and as many of the test split
REFERENCES = 4  # other forms given with each valid or test source

CITIES = "paris london rome berlin madrid tokyo delhi boston dublin cairo oslo moscow vienna athens lisbon"
GOODS = "shoes books bikes flowers phones toys boots hats watches rings plants lamps bags"
SKILLS = "french spanish german math physics history music art chess law cooking painting coding"
MONTHS = "january february march april may june july august september october november december"
PERSONS = "mother father sister brother son daughter wife husband friend aunt uncle cousin"
SLOTS: dict[str, tuple[str, ...]] = {
    "city": tuple(CITIES.split()),
    "goods": tuple(GOODS.split()),
    "skill": tuple(SKILLS.split()),
    "month": tuple(MONTHS.split()),
    "person": tuple(PERSONS.split()),
}

# One line is one template: [a|b] is a choice, <slot> is filled in. Every form of a family asks the same thing.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "buy": (
        "where [can|could] [i|one|people] [buy|get|find] <goods> in <city> ?",
        "where do [i|people] [buy|get|find] <goods> in <city> ?",
        "where in <city> can [i|one|people] [buy|get|find] <goods> ?",
        "[which|what] [shop|store] in <city> [sells|has] <goods> ?",
        "who sells <goods> in <city> ?",
        "where are <goods> sold in <city> ?",
    ),
    "learn": (
        "where [can|could] [i|one|people] [learn|study] <skill> in <city> ?",
        "where do [i|people] [learn|study] <skill> in <city> ?",
        "where in <city> [can|could] [i|one|people] [learn|study] <skill> ?",
        "[which|what] school in <city> [teaches|offers] <skill> ?",
        "who teaches <skill> in <city> ?",
        "where is <skill> taught in <city> ?",
        "where are <skill> [classes|lessons] offered in <city> ?",
        "where can i [find|take|get] <skill> [classes|lessons] in <city> ?",
    ),
    "price": (
        "what [would|will] [i|one|people] pay for <goods> in <city> ?",
        "what do [i|people] pay for <goods> in <city> ?",
        "[what|how much] [do|would|will] <goods> [cost|sell for|go for] in <city> ?",
        "how much are <goods> in <city> ?",
        "how much [would|will] <goods> be in <city> ?",
        "for how much are <goods> sold in <city> ?",
        "how expensive are <goods> in <city> ?",
        "what is the [price|cost] of <goods> in <city> ?",
    ),
    "rain": (
        "is <city> [rainy|wet] [in|during] <month> ?",
        "is it [rainy|wet] in <city> [in|during] <month> ?",
        "is it [rainy|wet] [in|during] <month> in <city> ?",
        "is <month> [rainy|wet] in <city> ?",
        "is the weather [rainy|wet] in <city> [in|during] <month> ?",
        "is there rain in <city> [in|during] <month> ?",
        "[does|will] it rain in <city> [in|during] <month> ?",
        "does it rain [in|during] <month> in <city> ?",
        "[does|will] <city> [get|have] rain [in|during] <month> ?",
        "[does|will] <city> have [rainy|wet] weather [in|during] <month> ?",
        "will it be [rainy|wet] in <city> [in|during] <month> ?",
    ),
    "visit": (
        "should [i|one|people] [visit|see] <city> [in|during] <month> ?",
        "would you [visit|see] <city> [in|during] <month> ?",
        "do you recommend [|visiting] <city> [in|during] <month> ?",
        "is <city> worth [visiting|a visit|a trip] [in|during] <month> ?",
        "is visiting <city> [in|during] <month> a good idea ?",
        "is <month> a good [time|month] to [visit|see] <city> ?",
        "is <month> good for [visiting|a visit to|a trip to] <city> ?",
    ),
    "teach": (
        "how [can i|could i|should i|might i|do i|would you] teach my <person> <skill> ?",
        "how [can i|could i|should i|might i|do i|would you] teach <skill> to my <person> ?",
        "how [can i|could i|should i|might i|do i|would you] explain <skill> to my <person> ?",
        "how [can i|could i|should i|might i|do i|would you] help my <person> [learn|study] <skill> ?",
        "any advice for teaching my <person> <skill> ?",
        "any advice for teaching <skill> to my <person> ?",
        "any idea how to teach my <person> <skill> ?",
    ),
    "gift": (
        "should i [buy|give|get] my <person> [|some] <goods> ?",
        "should i [buy|get] [|some] <goods> for my <person> ?",
        "should i give [|some] <goods> to my <person> ?",
        "[would|will] my <person> [like|love|enjoy] [|some] <goods> ?",
        "do you think my <person> [would|will] [like|love|enjoy] <goods> ?",
        "are <goods> a good [gift|present|idea] for my <person> ?",
    ),
}


@dataclass(frozen=True)
class Meaning:
    """What a question asks: its family and one value per slot, in the order of the family's slots."""

    family: str
    values: tuple[str, ...]

    @property
    def digest(self) -> str:
        """A number of the meaning's own (hex): its place in the split does not hang on the others."""
        return hashlib.sha256(" ".join((self.family, *self.values)).encode()).hexdigest()


@dataclass(frozen=True)
class Family:
    """A kind of question.

    Attributes:
        name: its name.
        slots: the names of its slots, sorted; the values of each are ``SLOTS[name]``.
        patterns: every way to ask, with ``{slot}`` where a value goes.
    """

    name: str
    slots: tuple[str, ...]
    patterns: tuple[str, ...]


class Grammar:
    """The built-in corpus: seven families, 150 words, 1,257 meanings with 33 to 46 forms each.

    Sentences are lower case, their words and the closing ``?`` separated by single blanks, at most nine in all; so a
    pair takes at most 9 + 9 + 5 = 23 positions of a DiffuSeq sequence under a tokenizer of whole words.
    """

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """The families of questions."""
        return tuple(_family(name, templates) for name, templates in TEMPLATES.items())

    def meanings(self, split: str | None = None) -> list[Meaning]:
        """All meanings, or those of ``train``, ``valid`` or ``test``. The splits share none.

        Raises:
            UserError: there is no such split.
        """
        if split is None:
            return list(self._forms)
        if split not in self._splits:
            raise UserError(f"the grammar has no split {split!r}; choose one of {', '.join(self._splits)}")
        return self._splits[split]

    def forms(self, meaning: Meaning) -> tuple[str, ...]:
        """All sentences that ask it. Raises ``UserError`` if the grammar has no such meaning."""
        if meaning not in self._forms:
            raise UserError(f"the grammar has no meaning {meaning}; Grammar().meanings() lists all")
        return self._forms[meaning]

    def parse(self, sentence: str) -> Meaning | None:
        """What the sentence asks, or None if it is not, character for character, a sentence of the grammar."""
        return self._meaning_of.get(sentence)

    def paraphrases(self, sentence: str) -> frozenset[str]:
        """Every correct output for a source: the other forms of its meaning. A copy of the source is not among them.

        Raises:
            UserError: the sentence is not of the grammar.
        """
        meaning = self.parse(sentence)
        if meaning is None:
            raise UserError(f"{sentence!r} is not a sentence of the built-in grammar, so its paraphrases are unknown")
        return frozenset(self._forms[meaning]) - {sentence}

    def pairs(self, split: str, n: int, seed: int = 0) -> list[Pair]:
        """``n`` pairs of a split, a pure function of the arguments.

        Train: two different forms of a random meaning, drawn anew for each pair. Valid and test: ``n`` different
        sources, each with four other forms of its meaning as references.

        Raises:
            UserError: there is no such split, or it has fewer than ``n`` sources.
        """
        meanings = self.meanings(split)
        rng = random.Random(f"{split} {seed}")
        if split == "train":
            drawn = (rng.sample(self._forms[rng.choice(meanings)], 2) for _ in range(n))
            return [Pair(src, (trg,)) for src, trg in drawn]
        sources = [form for meaning in meanings for form in self._forms[meaning]]
        if n > len(sources):
            raise UserError(f"the grammar's {split} split has {len(sources)} sources, fewer than the {n} asked for")
        return [Pair(src, self._references(src, rng)) for src in rng.sample(sources, n)]

    def _references(self, source: str, rng: random.Random) -> tuple[str, ...]:
        return tuple(rng.sample(sorted(self.paraphrases(source)), REFERENCES))

    @cached_property
    def _forms(self) -> dict[Meaning, tuple[str, ...]]:
        forms = {}
        for family in self.families:
            for values in itertools.product(*(SLOTS[slot] for slot in family.slots)):
                filling = dict(zip(family.slots, values, strict=True))
                forms[Meaning(family.name, values)] = tuple(p.format_map(filling) for p in family.patterns)
        return forms

    @cached_property
    def _meaning_of(self) -> dict[str, Meaning]:
        return {form: meaning for meaning, forms in self._forms.items() for form in forms}

    @cached_property
    def _splits(self) -> dict[str, list[Meaning]]:
        shuffled = sorted(self._forms, key=lambda meaning: meaning.digest)
        valid, test = shuffled[:HELD_OUT], shuffled[HELD_OUT : 2 * HELD_OUT]
        return {"train": shuffled[2 * HELD_OUT :], "valid": valid, "test": test}


def write_corpus(
    folder: str | os.PathLike[str], seed: int = 0, n_train: int = 60_000, n_valid: int = 1_024, n_test: int = 2_048
) -> None:
    """Write the grammar as a data folder, with the marker ``grammar.json`` from which :func:`is_grammar` knows it.

    Raises:
        UserError: more valid or test pairs are asked for than there are sources.
    """
    grammar = Grammar()
    for split, n in (("train", n_train), ("valid", n_valid), ("test", n_test)):
        write_split(Path(folder) / f"{split}.jsonl.gz", grammar.pairs(split, n, seed))
    write_text(Path(folder) / "grammar.json", json.dumps(MARKER) + "\n")


def is_grammar(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder's texts are of this grammar, so that the correct outputs of a source can be listed.

    Raises:
        UserError: its ``grammar.json`` cannot be read.
    """
    path = Path(folder) / "grammar.json"
    try:
        return json.loads(path.read_bytes()) == MARKER
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); write the corpus again, or remove the file") from error


def _family(name: str, templates: tuple[str, ...]) -> Family:
    slots = sorted({slot for template in templates for slot in re.findall(r"<(\w+)>", template)})
    patterns = tuple(pattern for template in templates for pattern in _expand(template))
    return Family(name, tuple(slots), patterns)


def _expand(template: str) -> list[str]:
    """All choices of a template, with ``<slot>`` turned into ``{slot}`` and blanks made single."""
    pieces = re.split(r"\[(.*?)\]", template)  # every second piece is a choice
    choices = [piece.split("|") if i % 2 else [piece] for i, piece in enumerate(pieces)]
    sentences = ("".join(picked) for picked in itertools.product(*choices))
    return [re.sub(r"<(\w+)>", r"{\1}", " ".join(sentence.split())) for sentence in sentences]
