"""The second stage's loss and its gradients, with the original's recorded noise and times."""

from dlkit.diffusion import flow_map
from dlkit.objectives.map_matching import MapMatching
from parity.cases import Case
from parity.every_array import every_array
from parity.flm_network import check_gradients, denoiser
from parity.flm_students import recorded_trip, residual_student, turn


def check(case: Case) -> None:
    """The loss has no weighting though the student has a head for one, which gets no gradient."""
    teacher, student, guide = denoiser(case), denoiser(case, "flm_distill_double"), residual_student(case)
    objective = MapMatching(map="the first stage's", boundary=1 / case.config["boundary_prob"])
    with every_array(case) as golden:
        trip = recorded_trip(case, golden, teacher, objective)
        roles, s, t = turn(teacher, student, guide=guide), trip.t, trip.way.end
        case.close(roles.ask("teacher", trip.x_t, s, trip.cond).x0, golden["teacher_at_s"], "teacher_at_s")
        own = roles.ask("student", trip.x_t, s, trip.cond, t).x0
        case.close(own, golden["student_at_s_t"], "student_at_s_t")
        clock = teacher.process.noise_schedule.network_time
        residual = guide.backbone.correction(trip.x_t, clock(s), end=clock(t))[0]  # type: ignore[operator, union-attr]
        case.close(residual, golden["residual_at_s_t"], "residual_at_s_t")
        process, target = teacher.process, objective.target(roles, trip)
        case.close(target, flow_map.corrected(process, golden["teacher_at_s"], residual, s, t), "D of the guide")
        landed = [process.ddim(trip.x_t, x0, s, t) for x0 in (own, target)]
        case.close((landed[0] - landed[1]).square().sum(-1), golden["loss"], "loss")
        (term,) = objective.generator_terms(roles, trip).values()
        case.close(term, golden["loss"].mean(), "mean loss")
        term.backward()
        check_gradients(case, student.backbone)
