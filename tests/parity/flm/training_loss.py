"""FLM's training loss and its gradients, with the original's recorded noise and times."""

import torch

from dlkit.diffusion.time_samplers.stratified import StratifiedTime
from dlkit.schedules.rectified_flow import RectifiedFlowSchedule
from dlkit.teachers._base import FitBatch
from dlkit.teachers.flm import Flm, token_losses
from parity.cases import Case
from parity.every_array import every_array
from parity.flm_network import check_gradients, denoiser, network, times


def check(case: Case) -> None:
    flow = denoiser(case)
    with every_array(case) as golden:
        check_times(case, golden)
        noise, valid = golden["noise"], golden["valid"]
        free = torch.ones_like(valid, dtype=torch.bool)  # what is not valid is noised all the same
        batch = FitBatch(golden["x0"], free, times(golden["tau"]), lambda name: noise.clone(), torch.rand)
        case.close(flow.process.noise_schedule.alpha(batch.t).float(), golden["c"], "c")
        loss = token_losses(flow, batch)
        case.close(loss, golden["loss"], "loss")
        reduced = (loss * valid).sum() / valid.sum()
        case.close(reduced, golden["reduced_loss"], "reduced_loss")
        terms = Flm().losses(flow, batch)
        case.close(terms["ce"], golden["loss"].mean(1), "ce")
        terms["ce"].mean().backward()
        check_gradients(case, flow.backbone)
        check_weighting(case, golden, batch)


def check_times(case: Case, golden: dict[str, torch.Tensor]) -> None:
    """The original's times are those of the sampler, permuted."""
    t = StratifiedTime().sample(golden["rand"].double(), RectifiedFlowSchedule(lowest=1e-12))
    case.close(t.float()[golden["perm"]], golden["tau"], "tau")


def check_weighting(case: Case, golden: dict[str, torch.Tensor], batch: FitBatch) -> None:
    """The same with a student's head, whose w is a function of the time alone."""
    flow = denoiser(case)
    head = flow.backbone.learnable_loss_weighting = network(case, "flm_distill").learnable_loss_weighting
    case.close(head(golden["tau"]), golden["weighted.log_weight"], "w")
    case.close(Flm().losses(flow, batch)["weighted_ce"], golden["weighted.loss"].mean(1), "weighted loss")
