"""The first stage's loss and its gradients, with the original's recorded noise and times."""

from dlkit.objectives.residual_psd import ResidualPsd
from parity.cases import Case
from parity.every_array import every_array
from parity.flm_network import check_gradients, denoiser
from parity.flm_students import recorded_trip, residual_student, turn


def check(case: Case) -> None:
    teacher, student = denoiser(case), residual_student(case)
    assert case.config["learnable_loss_weighting"]
    objective = ResidualPsd(boundary=1 / case.config["boundary_prob"])
    with every_array(case) as golden:
        trip = recorded_trip(case, golden, teacher, objective)
        roles, way = turn(teacher, student), trip.way
        case.close(roles.ask("teacher", trip.x_t, trip.t, trip.cond).x0, golden["teacher_at_s"], "teacher_at_s")
        clock = teacher.process.noise_schedule.network_time
        residual = student.backbone.correction(trip.x_t, clock(trip.t), end=clock(way.end))[0]  # type: ignore[operator, union-attr]
        case.close(residual, golden["student_at_s_t"], "student_at_s_t")
        case.close(roles.log_weight(trip.t), golden["log_weight"], "log_weight")
        own = roles.ask("student", trip.x_t, trip.t, trip.cond, way.end)
        target = objective.target(roles, trip).detach()
        by_token = (own.x0 - target).square().sum(-1)
        w = golden["log_weight"][:, None]
        case.close((-w).exp() * by_token + w, golden["loss"], "loss")
        (term,) = objective.generator_terms(roles, trip).values()
        case.close(term, golden["loss"].mean(), "mean loss")
        term.backward()
        check_gradients(case, student.backbone.correction)  # type: ignore[arg-type]
