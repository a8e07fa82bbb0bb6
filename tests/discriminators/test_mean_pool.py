"""The mean-pooling head."""

import torch
from torch.nn import functional as F
from torch.testing import assert_close

from dlkit.discriminators.mean_pool import MeanPool, MeanPoolHead

MASK = torch.tensor([[True, False, True], [False, False, True], [False, False, False]])


def head() -> MeanPoolHead:
    torch.manual_seed(0)
    made = MeanPool().build(4)
    assert isinstance(made, MeanPoolHead)
    return made


def test_the_formula() -> None:
    net, features = head(), torch.randn(3, 3, 4)
    means = torch.stack((features[0, [0, 2]].mean(0), features[1, 2], torch.zeros(4)))
    wanted = F.layer_norm(means, (4,)) @ net.logit.weight[0] + net.logit.bias
    assert_close(net(features, MASK), wanted)


def test_given_positions_do_not_matter_and_rows_are_apart() -> None:
    net, features = head(), torch.randn(3, 3, 4)
    other = torch.where(MASK[..., None], features, 100.0)
    assert torch.equal(net(features, MASK), net(other, MASK))
    assert_close(net(features[1:2], MASK[1:2]), net(features, MASK)[1:2])
