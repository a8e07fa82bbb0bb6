"""What decoders promise."""

import torch
from torch import Tensor

from dlkit.decoders._base import Decoder
from dlkit.generator import load_teacher
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.testing import _material as material
from dlkit.testing._promise import compiled, promise, require, require_equal


def space() -> EmbeddingSpace:
    return material.seeded(EmbeddingSpace, material.VOCABULARY, material.DIM).requires_grad_(False)


def decoded(part: Decoder, x: Tensor) -> Tensor:
    return part.decode(x, space())


@promise()
def gives_tokens(part: Decoder) -> None:
    """One token of the vocabulary for each position, however far off the state is."""
    for x in (material.normal("x"), 1e3 * material.normal("x"), torch.zeros(1, 1, material.DIM)):
        ids = decoded(part, x)
        require(tuple(ids.shape) == tuple(x.shape[:2]), f"the tokens have shape {tuple(ids.shape)}")
        require(not ids.is_floating_point(), f"the tokens are {ids.dtype}")
        require((ids >= 0).all() and (ids < material.VOCABULARY).all(), "a token is outside the vocabulary")


@promise()
def writes_the_same_again(part: Decoder) -> None:
    """A text is a function of source and seed: neither another call nor its batch mates change it."""
    model = load_teacher(material.teacher())
    options = {"decoder": part.spec(), "steps": 2, "num_samples": 2, "seed": 1}
    tokens = model.generate_tokens(list(material.SOURCES), **options)
    require(tokens == model.generate_tokens(list(material.SOURCES), **options), "two calls differ")
    alone = [model.generate_tokens([source], **options)[0] for source in material.SOURCES]
    require(tokens == alone, "a text depends on its batch mates")
    require(model.generate(list(material.SOURCES), **options) != [], "nothing is written")


@promise(compiles=True)
def compiles(part: Decoder) -> None:
    """Compiled as one graph it gives the tokens that it gives otherwise."""
    x, table = material.normal("x"), space()
    with torch.no_grad():
        require_equal(compiled(lambda x: part.decode(x, table))(x), part.decode(x, table), "compiled tokens differ")
