"""Samples of the first stage's student: the flow model and a residual."""

from parity.cases import Case
from parity.flm_students import check_sampling, residual_student


def check(case: Case) -> None:
    check_sampling(case, residual_student(case))
