"""DLM-One's Algorithm 1 with SiD and an adversary, as one would first write it: eager, one loss for each turn."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from benchmarks.reference.original_sampler import OriginalNetwork
from dlkit.backbones.diffuseq import DiffuseqBackbone

Draws = Callable[[str, tuple[int, ...]], Tensor]
"""Standard normals, or for names that end in "time" uniforms, by the name of their use and their shape."""


@dataclass(frozen=True)
class Settings:
    """Numbers of the method, and the square-root schedule's index of the student's time."""

    mu: float
    a_dsm: float
    a_sd: float
    b_psi: float
    b_theta: float
    lr_generator: float
    lr_critic: float
    clip_generator: float | None
    clip_critic: float | None
    betas: tuple[float, float]
    eps: float
    ema: float
    t_init: float
    t_max: float
    steps: int


class Network(OriginalNetwork):
    """The encoder of `transformers` with fused attention; gives the last hidden state too."""

    def __init__(self, backbone: DiffuseqBackbone, heads: int, ff: int) -> None:
        super().__init__(backbone, heads, ff)
        self.input_transformers.config._attn_implementation = "sdpa"

    def forward(self, x: Float[Tensor, "b l d"], time: Float[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(x, time)
        return self.output_down_proj(hidden), hidden


class MeanPool(nn.Module):
    """A linear logit of the normalised mean of the hidden states over generated positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.logit = nn.LayerNorm(width), nn.Linear(width, 1)

    def forward(self, hidden: Float[Tensor, "b l h"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, " b"]:
        keep = mask[..., None].float()
        return self.logit(self.norm((hidden * keep).sum(1) / keep.sum(1).clamp(min=1)))[:, 0]


class Algorithm1:
    """Teacher phi, student theta, fake score psi with a head; one call of :meth:`iteration` is one of the algorithm.

    Frozen networks get no gradients: the teacher never, psi and the head by ``requires_grad_`` in the generator's turn.
    """

    def __init__(
        self,
        backbone: DiffuseqBackbone,
        sizes: tuple[int, int],
        table: Float[Tensor, "v d"],
        settings: Settings,
        draws: Draws | None = None,
    ) -> None:
        self.settings, self.table = settings, table
        self.draws: Draws = draws or (
            lambda name, shape: torch.rand(shape) if name.endswith("time") else torch.randn(shape)
        )
        self.teacher = Network(copy.deepcopy(backbone), *sizes).requires_grad_(False)
        self.student, self.fake = (Network(copy.deepcopy(backbone), *sizes).requires_grad_(True) for _ in range(2))
        self.head = MeanPool(backbone.feature_dim)
        self.critic = nn.ModuleDict({"fake": self.fake, "head": self.head})
        self.generator_optimizer, self.critic_optimizer = (
            torch.optim.AdamW(network.parameters(), lr=lr, betas=settings.betas, eps=settings.eps, weight_decay=0.0)
            for network, lr in ((self.student, settings.lr_generator), (self.critic, settings.lr_critic))
        )
        self.ema = {name: p.detach().clone() for name, p in self.student.named_parameters()}

    def alpha_sigma(self, t: Float[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """The square-root schedule of 2,000 steps, between them interpolated: here times are those of steps."""
        index = (t * self.settings.steps).round().long() - 1
        squares = self._alpha_bar()[index]
        return squares.sqrt().float()[:, None, None], (1.0 - squares).sqrt().float()[:, None, None]

    def _alpha_bar(self) -> Float[Tensor, " t"]:
        time = torch.arange(1, self.settings.steps + 1, dtype=torch.float64) / self.settings.steps
        kept = lambda u: 1.0 - torch.sqrt(u + 1e-4)  # noqa: E731
        before = torch.cat((torch.zeros(1, dtype=torch.float64), time[:-1]))
        return torch.cumprod(1.0 - (1.0 - kept(time) / kept(before)).clamp(max=0.999), 0)

    def network_time(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return (((t * self.settings.steps).round() - 1) * (1000.0 / self.settings.steps)).float()

    def generate(self, ids: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"], name: str) -> Float[Tensor, "b l d"]:
        """One call of the student on noise beside the true source."""
        anchor, keep = self.table[ids], mask[..., None]
        z = torch.where(keep, self.draws(f"{name}/z", tuple(anchor.shape)), anchor)
        t = torch.full((len(ids),), self.settings.t_init, dtype=torch.float64)
        return torch.where(keep, self.student(z, self.network_time(t))[0], anchor)

    def noised(self, x0: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"], name: str) -> tuple[Tensor, Tensor]:
        """x_t and t; positions of the source stay."""
        u = self.draws(f"{name}/time", (len(x0),)).double()
        t = (1.0 + torch.floor(u * self.settings.t_max * self.settings.steps)) / self.settings.steps
        alpha, sigma = self.alpha_sigma(t)
        x_t = alpha * x0 + sigma * self.draws(f"{name}/eps", tuple(x0.shape))
        return torch.where(mask[..., None], x_t, x0), self.network_time(t)

    def critic_turn(self, ids: Tensor, mask: Tensor, real_ids: Tensor, real_mask: Tensor) -> Tensor:
        with torch.no_grad():
            x0 = self.generate(ids, mask, "critic")
        x_t, time = self.noised(x0, mask, "critic/fake")
        found, hidden = self.fake(x_t, time)
        real_t, real_time = self.noised(self.table[real_ids], real_mask, "critic/real")
        _, real_hidden = self.fake(real_t, real_time)
        keep = mask[..., None].float()
        error = (((found - x0) ** 2 * keep).sum((1, 2)) / (keep.sum((1, 2)) * x0.shape[-1])).mean()
        on_fake, on_real = self.head(hidden, mask), self.head(real_hidden, real_mask)
        told_apart = (F.softplus(on_fake).mean() + F.softplus(-on_real).mean()) / 2
        loss = self.settings.a_dsm * error + self.settings.b_psi * told_apart
        loss.backward()
        self._step(self.critic_optimizer, self.critic, self.settings.clip_critic)
        return loss.detach()

    def generator_turn(self, ids: Tensor, mask: Tensor) -> Tensor:
        self.critic.requires_grad_(False)
        x0 = self.generate(ids, mask, "generator")
        x_t, time = self.noised(x0, mask, "generator/fake")
        of_teacher, _ = self.teacher(x_t, time)
        of_fake, hidden = self.fake(x_t, time)
        keep = mask[..., None].float()
        count = keep.sum((1, 2)) * x0.shape[-1]
        gap, rest = of_teacher - of_fake, of_fake - x0
        with torch.no_grad():
            weight = 1.0 / (((x0 - of_teacher).abs() * keep).sum((1, 2)) / count).clamp(min=1e-5)
        matched = ((((1 - self.settings.mu) * gap**2 + gap * rest) * keep).sum((1, 2)) * weight / count).mean()
        loss = self.settings.a_sd * matched + self.settings.b_theta * F.softplus(-self.head(hidden, mask)).mean()
        loss.backward()
        self._step(self.generator_optimizer, self.student, self.settings.clip_generator)
        self.critic.requires_grad_(True)
        with torch.no_grad():
            for name, parameter in self.student.named_parameters():
                self.ema[name].mul_(self.settings.ema).add_(parameter, alpha=1 - self.settings.ema)
        return loss.detach()

    def _step(self, optimizer: torch.optim.Optimizer, network: nn.Module, clip: float | None) -> None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), float("inf") if clip is None else clip)
        optimizer.step()
        optimizer.zero_grad()

    def iteration(self, critic: tuple[Tensor, Tensor], real: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor]) -> None:
        """One of Algorithm 1; each argument is tokens and the mask of what is generated."""
        self.critic_turn(*critic, *real)
        self.generator_turn(*own)
