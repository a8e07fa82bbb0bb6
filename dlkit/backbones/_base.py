"""What a backbone is."""

from abc import abstractmethod

from torch import nn

from dlkit.part import Part


class Backbone(Part):
    """Settings of a network: a module ``forward(x [b l d], time [b], taps) -> (output [b l d], features or None)``.

    What the output is, ``model.prediction`` says: x0, eps, v, score, velocity, or a state whose logits are meant.
    The type of its matrices may be lower than that of the state: see :meth:`dlkit.denoiser.Denoiser.compute_in`, which
    leaves the layers alone that are named in its attribute ``full_precision``.
    A module may have more to it, and says so by attributes that are True:

        own_logits        the output is [b l v]: logits over the vocabulary
        self_conditions   it takes ``self_cond=``, an earlier estimate of x0 [b l d], or None for none
        residual          the output is that of one time, and beside it, in d more columns, a residual of x0 for the
                          way to the second: see :func:`dlkit.diffusion.flow_map.corrected`
        two_times         it takes ``end=``, a second time [b] as the network is fed it, or None for the first again

    ``taps`` are the numbers of the layers whose hidden states are the features, negative ones counted from the end, or
    None where no features are wanted. Features [b, l, h times the number of taps] are those of all taps side by side.
    The module has ``feature_dim``, the width h of one layer. If it is a :class:`dlkit.backbones._layers.Layered` and
    passes its state :meth:`~dlkit.backbones._layers.Layered.through` its layers, ``run.memory`` can make it keep less.
    """

    @abstractmethod
    def build(self, dim: int, vocab_size: int) -> nn.Module:
        """A network for states of width ``dim`` that stand for ``vocab_size`` tokens."""
