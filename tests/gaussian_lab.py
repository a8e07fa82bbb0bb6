"""A laboratory in which everything is known: Gaussian texts, exact denoisers, a linear student.

A text has n elements, all in one position unless the schedule knows more of them. The teacher's texts are N(m, S),
the student's are x = A z + b, so both stay Gaussian under noise and their denoisers, scores and density ratios are
formulas.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlkit.denoiser import Prediction
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.objectives._base import Noised, Objective
from dlkit.randomness import Stream
from dlkit.spaces.embedding import EmbeddingSpace

N = 4
TIMES = (0.02, 0.2, 0.5, 0.8)


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance) of clean states, all positions in one vector, and what noise makes of it."""

    mean: Tensor
    covariance: Tensor

    def level(self, coefficient: Tensor) -> Tensor:
        """Of [b], [b, 1]; of [b, positions] that of each element, [b, n]."""
        if coefficient.ndim == 1:
            return coefficient[:, None]
        return coefficient.repeat_interleave(len(self.mean) // coefficient.shape[1], 1)

    def noised(self, process: GaussianProcess, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of x_t: D m and D S D + sigma^2, D and sigma diagonal, D = alpha."""
        alpha, sigma = (self.level(c(t)) for c in (process.noise_schedule.alpha, process.noise_schedule.sigma))
        noise = sigma.square()[:, None] * torch.eye(len(self.mean)).double()
        return alpha * self.mean, alpha[:, :, None] * self.covariance * alpha[:, None] + noise

    def denoise(self, process: GaussianProcess, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x0 | x_t] = m + S D (D S D + sigma^2)^-1 (x_t - D m)."""
        times, sample = t.unique(return_inverse=True)
        mean, covariance = self.noised(process, times)
        alpha = self.level(process.noise_schedule.alpha(times))
        gain = self.covariance * alpha[:, None] @ torch.linalg.inv(covariance)
        rest = (x_t.flatten(1) - mean[sample])[..., None]
        return (self.mean + (gain[sample] @ rest)[..., 0]).view_as(x_t)

    def log_density(self, process: GaussianProcess, x_t: Tensor, t: Tensor) -> Tensor:
        """log p_t(x_t)."""
        times, sample = t.unique(return_inverse=True)
        mean, covariance = self.noised(process, times)
        root = torch.linalg.cholesky(covariance)[sample]
        white = torch.linalg.solve_triangular(root, (x_t.flatten(1) - mean[sample])[..., None], upper=False)
        log_volume = root.diagonal(dim1=1, dim2=2).log().sum(1) + len(self.mean) * math.log(2 * math.pi) / 2
        return -white.square().sum((1, 2)) / 2 - log_volume


def kl(q: Gaussian, p: Gaussian) -> float:
    """KL(q | p)."""
    pair = [torch.distributions.MultivariateNormal(g.mean, g.covariance) for g in (q, p)]
    return float(torch.distributions.kl_divergence(*pair))


@dataclass
class Student:
    """x = A z + b."""

    a: Tensor
    b: Tensor

    def __post_init__(self) -> None:
        self.a, self.b = (w.detach().double().clone().requires_grad_() for w in (self.a, self.b))

    def texts(self, z: Tensor, positions: int = 1) -> Tensor:
        """[b, positions, elements of each]."""
        return (z @ self.a.T + self.b).unflatten(1, (positions, -1))

    def distribution(self) -> Gaussian:
        return Gaussian(self.b.detach(), (self.a @ self.a.T).detach())


@dataclass
class ExactRoles:
    """Teacher, fake score and discriminator at their optimum; no gradient reaches what they are made from."""

    real: Gaussian
    generated: Gaussian
    process: GaussianProcess = field(default_factory=GaussianProcess)
    space: EmbeddingSpace = field(default_factory=lambda: EmbeddingSpace(3, N).double())
    pulled: float = 0.0  # the fake score is this share teacher: a half is the optimal critic of moment_matching

    def teacher(self, noised: Noised, graph: bool = True) -> Prediction:
        x0 = self.real.denoise(self.process, noised.x_t if graph else noised.x_t.detach(), noised.t)
        return Prediction(x0, x0)

    def fake_score(self, noised: Noised, graph: bool = True) -> Prediction:
        x_t = noised.x_t if graph else noised.x_t.detach()
        own, teacher = (g.denoise(self.process, x_t, noised.t) for g in (self.generated, self.real))
        x0 = torch.lerp(own, teacher, self.pulled)
        return Prediction(x0, x0)

    def discriminator(self, noised: Noised) -> Tensor:
        real, generated = (g.log_density(self.process, noised.x_t, noised.t) for g in (self.real, self.generated))
        return real - generated


def whitened(seed: int, count: int, width: int) -> Tensor:
    """Normals whose sample mean is 0 and whose sample covariance is I: quadratic expectations over them are exact."""
    draws = Stream(seed, "lab").normal(torch.arange(count), width).double()
    draws = draws - draws.mean(0)
    return draws @ torch.linalg.inv(torch.linalg.cholesky(draws.T @ draws / count)).T


def noised(x0: Tensor, eps: Tensor, t: Tensor, process: GaussianProcess) -> Noised:
    """Every position is generated."""
    cond = Condition(torch.zeros_like(x0), torch.ones(x0.shape[:2], dtype=torch.bool))
    return Noised(x0, process.q_sample(x0, t, eps.view_as(x0), cond), t, cond)


@dataclass
class Lab:
    """One objective on one student: its loss over a fixed set of noise, the same at every time.

    Attributes:
        objective: under test.
        real: the teacher's texts.
        times: each has ``count`` samples.
        count: samples at each time.
        pulled: see :class:`ExactRoles`.
        process: the noise; its schedule may know positions, whose number divides that of a text's elements.
    """

    objective: Objective
    real: Gaussian
    times: tuple[float, ...] = TIMES
    count: int = 32
    pulled: float = 0.0
    seed: int = 0
    process: GaussianProcess = field(default_factory=GaussianProcess)

    def __post_init__(self) -> None:
        width = len(self.real.mean)
        both = whitened(self.seed, self.count, 2 * width).repeat(len(self.times), 1)
        self.z, self.eps = both[:, :width], both[:, width:]
        self.t = torch.tensor(self.times).double().repeat_interleave(self.count)

    def loss(self, student: Student) -> Tensor:
        """The generator's loss with fake score and discriminator exact for this student."""
        roles = ExactRoles(self.real, student.distribution(), self.process, pulled=self.pulled)
        texts = student.texts(self.z, self.process.noise_schedule.positions or 1)
        fake = noised(texts, self.eps, self.t, self.process)
        return torch.stack(list(self.objective.generator_terms(roles, fake).values())).sum()

    def gradient(self, student: Student) -> tuple[Tensor, Tensor]:
        """With respect to A and b."""
        a, b = torch.autograd.grad(self.loss(student), (student.a, student.b))
        return a, b

    def descend(self, student: Student, steps: int = 60, lr: float = 0.15) -> float:
        """Adam with a falling rate, in place; KL(student | teacher) at the end."""
        optimizer = torch.optim.Adam([student.a, student.b], lr=lr, betas=(0.5, 0.99))
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - step / steps)
            student.a.grad, student.b.grad = self.gradient(student)
            optimizer.step()
        return kl(student.distribution(), self.real)


def teacher_of(seed: int, width: int = N) -> Gaussian:
    """Random mean, random covariance with eigenvalues between 1/4 and 4."""
    draws = Stream(seed, "teacher").normal(torch.arange(1), width, width + 2)[0].double()
    basis, _ = torch.linalg.qr(draws[:, :width])
    scales = (4.0 ** torch.tanh(draws[:, width]))[:, None]
    return Gaussian(draws[:, width + 1], basis @ (scales * basis.T))


def start_near(real: Gaussian, seed: int, spread: float = 0.25) -> Student:
    """A student around the teacher: A = S^1/2 e^E, b = m + S^1/2 e, with E and e normal of that standard deviation."""
    width = len(real.mean)
    draws = spread * Stream(seed, "student").normal(torch.arange(1), width, width + 1)[0].double()
    root = torch.linalg.cholesky(real.covariance)
    return Student(root @ torch.linalg.matrix_exp(draws[:, :width]), real.mean + root @ draws[:, width])


def student_at(real: Gaussian) -> Student:
    """The student that is the teacher."""
    return Student(torch.linalg.cholesky(real.covariance), real.mean)
