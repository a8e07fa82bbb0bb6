"""What a model folder says of how to rebuild the network."""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from dlkit import backbones, decoders, samplers, spaces, teachers
from dlkit.data.sequences import Layout
from dlkit.denoiser import Denoiser
from dlkit.diffusion import processes
from dlkit.diffusion.parameterization import Source
from dlkit.part import part_of
from dlkit.recipe.settings import Spec


class Architecture(Spec):
    """What a folder's ``config.json`` says of how to rebuild the network.

    Attributes:
        family, space, process, backbone, decoder, sampler: parts; the sampler is the one used when none is named.
        prediction: what the backbone puts out.
        vocab_size, seq_len, overlong, layout: the text side.
        condition_dropout: share of texts that the network was trained on without their source; guidance needs some.
    """

    family: part_of(teachers.registry)  # type: ignore[valid-type]
    space: part_of(spaces.registry)  # type: ignore[valid-type]
    process: part_of(processes.registry)  # type: ignore[valid-type]
    backbone: part_of(backbones.registry)  # type: ignore[valid-type]
    decoder: part_of(decoders.registry)  # type: ignore[valid-type]
    sampler: part_of(samplers.registry)  # type: ignore[valid-type]
    prediction: Source = "x0"
    vocab_size: int = Field(ge=1, le=10_000_000)
    seq_len: int = Field(ge=8)
    overlong: Literal["truncate", "refuse"] = "truncate"
    layout: Layout = "pairs"
    condition_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _backbone_is_long_enough(self) -> Self:
        most = getattr(self.backbone, "max_positions", self.seq_len)
        if self.seq_len > most:
            raise ValueError(f"seq_len={self.seq_len} is more than backbone.max_positions={most}")
        return self

    @model_validator(mode="after")
    def _schedule_knows_every_position(self) -> Self:
        known = getattr(getattr(self.process, "schedule", None), "positions", None)
        if known not in (None, self.seq_len):
            raise ValueError(f"seq_len={self.seq_len} is not the {known} positions of the schedule")
        return self

    @property
    def is_conditional(self) -> bool:
        """Whether a text has a source."""
        return self.layout == "pairs"

    def build(self, seed: int = 0) -> Denoiser:
        """A network with fresh weights, a function of the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            space = self.space.build(self.vocab_size)
            return Denoiser(space, self.process, self.backbone.build(space.dim, space.vocab_size), self.prediction)
