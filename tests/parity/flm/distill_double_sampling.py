"""Samples of the second stage's student, one network of two times."""

from parity.cases import Case
from parity.flm_network import denoiser
from parity.flm_students import check_sampling


def check(case: Case) -> None:
    check_sampling(case, denoiser(case, "flm_distill_double"))
