"""The nearest token, the rounding of predictions, the final decoder, and the ranks that older helpers returned."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dlkit.decoders.linear_head import LinearHead
from dlkit.decoders.nearest import Nearest
from dlkit.denoiser import Denoiser
from dlkit.kernels.best_token import best_token
from dlkit.kernels.nearest_token import nearest_token
from dlkit.samplers.ancestral import Ancestral
from parity.cases import Case
from parity.diffuseq_network import network
from parity.every_array import every_array


class Echo(nn.Module):
    """A network whose prediction is its input."""

    def forward(self, x: Tensor, time: Tensor, taps: tuple[int, ...] | None = None) -> tuple[Tensor, None]:
        return x, None


def check(case: Case) -> None:
    trained = network(case)
    space, limit = trained.space, case.meta["tolerance"]["values_atol"]
    echo = Denoiser(space, trained.process, Echo())
    with every_array(case) as golden, torch.no_grad():
        table, query, x = golden["table"], golden["query"], golden["x"]
        assert torch.equal(space.table, table)
        nearest = Nearest().decode(query[None], space)[0]
        assert nearest.equal(golden["indices"])
        torch.testing.assert_close(-(query - table[nearest]).square().sum(1), golden["values"], rtol=0, atol=limit)
        rounded = Ancestral(rounding=True).clean(echo, x, torch.ones(len(x)).double(), None)
        assert torch.equal(rounded, golden["x_rounded"])
        assert LinearHead().decode(query[None], space)[0].equal(golden["argmax_logits"])
        scores: dict[str, tuple[Callable, Callable]] = {
            "l2": (nearest_token, lambda q, rows: -(q - rows).norm(dim=-1)),
            "dot": (lambda q, rows: best_token(q, rows, torch.zeros(len(rows))), lambda q, rows: (q * rows).sum(-1)),
        }
        helpers = [name.removesuffix(".indices") for name in golden if name.endswith(".indices")]
        assert helpers
        for helper in helpers:  # such as knn6_l2
            find, score = scores[helper.partition("_")[2]]
            ranks = torch.stack([ranked(each, table, len(golden[f"{helper}.indices"]), find) for each in query], 1)
            assert ranks.equal(golden[f"{helper}.indices"]), helper
            torch.testing.assert_close(score(query, table[ranks]), golden[f"{helper}.values"], rtol=0, atol=limit)


def ranked(query: Tensor, table: Tensor, count: int, find: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The best rows, best first: each is the best of the table without those before it."""
    left, found = torch.arange(len(table)), []
    for _ in range(count):
        best = left[find(query[None], table[left])[0]]
        found.append(best)
        left = left[left != best]
    return torch.stack(found)
