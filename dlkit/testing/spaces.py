"""What spaces promise."""

import torch
from torch import Tensor, nn

from dlkit.spaces._base import Space, TokenSpace
from dlkit.testing import _material as material
from dlkit.testing._promise import compiled, promise, require, require_close, require_equal, require_like

IDS = torch.arange(material.VOCABULARY)[None]


def built(part: Space) -> TokenSpace:
    space = material.seeded(part.build, material.VOCABULARY)
    require(isinstance(space, nn.Module), f"build gave a {type(space).__name__}, not a module")
    return space


@promise()
def embeds_and_reads(part: Space) -> None:
    """embed gives states of width dim, and logits and evidence a number for each token."""
    space = built(part)
    x, vocabulary = space.embed(IDS), material.VOCABULARY
    require_like(x, "embed(ids)", (1, vocabulary, space.dim), torch.float32)
    require_like(space.logits(x), "logits(x)", (1, vocabulary, vocabulary), torch.float32)
    half = torch.full((1, 1, 1), 0.5)
    require_like(space.evidence(x, half, half), "evidence(x_t)", (1, vocabulary, vocabulary), torch.float32)
    require(space.vocab_size == vocabulary, f"vocab_size is {space.vocab_size}, not {vocabulary}")


@promise()
def keeps_tokens_apart(part: Space) -> None:
    """No two tokens have the same state."""
    space = built(part)
    states = space.embed(IDS)[0].detach()
    distances = torch.cdist(states, states) + torch.eye(len(states))
    require(distances.min() > 0, "two tokens have the same state")
    require_equal(space.nearest(space.embed(IDS)), IDS, "a token's state is nearer to another token")


@promise()
def means_and_noises(part: Space) -> None:
    """mean weights the states of the tokens, and noised is alpha times a token's state and sigma times the noise."""
    space, states = built(part), built(part).embed(IDS)
    logits = torch.linspace(-2.0, 2.0, material.VOCABULARY)[None, None]
    require_close(space.mean(logits), logits.softmax(-1) @ states, "mean is not softmax(logits) E")
    alpha, sigma = torch.linspace(0.1, 1.0, material.VOCABULARY)[None], torch.full((1, material.VOCABULARY), 0.3)
    eps = torch.linspace(-1.0, 1.0, states.numel()).view_as(states)
    wanted = alpha[..., None] * states + 0.3 * eps
    require_close(space.noised(IDS, alpha, sigma, eps.clone()), wanted, "noised is not alpha e + sigma eps")


@promise()
def learns(part: Space) -> None:
    """Gradients of states and of logits reach its parameters, if it has any."""
    space = built(part)
    if not list(space.parameters()):
        return
    (space.embed(IDS).square().sum() + space.logits(space.embed(IDS)).square().sum()).backward()
    still = [name for name, p in space.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    require(not still, f"no finite gradient reaches {', '.join(still)}")


@promise()
def is_a_function_of_the_seed(part: Space) -> None:
    """Built twice under one seed it is the same, and after saving and loading too."""
    space, again = built(part), built(part)
    require_equal(again.embed(IDS), space.embed(IDS), "its weights do not follow torch's seed")
    fresh = material.seeded(part.build, material.VOCABULARY, seed=1)
    fresh.load_state_dict(material.stored(space))
    require_equal(fresh.embed(IDS), space.embed(IDS), "states change when it is saved and loaded")
    require_equal(fresh.logits(fresh.embed(IDS)), space.logits(space.embed(IDS)), "logits change when it is saved")


@promise(compiles=True)
def compiles(part: Space) -> None:
    """Compiled as one graph it embeds and reads as it does otherwise."""
    space = built(part)

    def both(ids: Tensor) -> tuple[Tensor, Tensor]:
        return space.embed(ids), space.logits(space.embed(ids))

    for one, other, what in zip(compiled(both, "aot_eager")(IDS), both(IDS), ("states", "logits"), strict=True):
        require_close(one, other, f"compiled {what} differ")
