"""What student an objective makes of a teacher's network."""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.backbones.residual import ResidualSpec
from dlkit.denoiser import Denoiser
from dlkit.errors import UserError
from dlkit.generator import Architecture, Teacher, load_student
from dlkit.objectives._base import Objective

SHARED = ("space", "process", "vocab_size", "seq_len")  # of a student and the one that guides it


def student_backbone(objective: Objective, teacher: Architecture) -> Any:
    """The backbone of the student: the teacher's; with a second time; or the teacher's beside a correction.

    Raises:
        UserError: the teacher's backbone cannot take a second time.
    """
    backbone: Any = teacher.backbone
    kind = getattr(objective, "student_kind", "same")
    if kind == "same":
        return backbone
    if "two_times" not in type(backbone).model_fields or backbone.two_times:
        raise UserError(
            f"objective {objective.registered_name!r} makes a student of two times, which backbone "
            f"{backbone.registered_name!r} of this teacher cannot take; choose consistency, or a teacher of family flm"
        )
    if kind == "two_times":
        return backbone.replace(two_times=True)
    weighting: bool = objective.weighting  # type: ignore[attr-defined]  # of the one objective of this kind
    return ResidualSpec(base=backbone, loss_weighting=weighting)


def beginner(teacher: Denoiser, backbone: Any, seed: int) -> Denoiser:
    """The student before its first update: it has the teacher's weights, and says what the teacher says.

    Args:
        backbone: what :func:`student_backbone` made of the teacher's.
        seed: of the weights that the teacher does not have.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = backbone.build(teacher.space.dim, teacher.space.vocab_size)
    inherit(network, teacher.backbone.state_dict())
    return Denoiser(teacher.space, teacher.process, network.to(teacher.space.device), teacher.prediction).eval()


def inherit(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give a student the teacher's weights; what it has beside keeps its own, and a correction begins as zero.

    Raises:
        ValueError: the teacher has weights that the student has no place for.
    """
    if getattr(network, "residual", False):
        frozen, correction = network.frozen, network.correction  # type: ignore[union-attr]
        inherit(frozen, weights)  # type: ignore[arg-type]
        head = [name for name, module in correction.named_modules() if module is correction.head]  # type: ignore[union-attr]
        inherit(correction, {name: w for name, w in weights.items() if name.rpartition(".")[0] not in head})  # type: ignore[arg-type]
        for parameter in correction.head.parameters():  # type: ignore[union-attr]
            nn.init.zeros_(parameter)
        return
    unknown = network.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"the student has no place for the teacher's {', '.join(unknown)}")


def guide(folder: str, teacher: Teacher) -> Denoiser:
    """The network of another student of this teacher, which has a map to follow.

    Raises:
        UserError: there is no such student, it has no map, or its texts are not the teacher's.
    """
    student = load_student(folder)
    if not student.denoiser.two_times:
        raise UserError(f"map: the student in {folder} has no second time; give the one that residual_psd or psd made")
    own, other = ({key: getattr(model.architecture, key) for key in SHARED} for model in (teacher, student))
    different = [key for key in SHARED if own[key] != other[key]]
    if different:
        raise UserError(f"map: the student in {folder} has another {' and '.join(different)} than the teacher")
    return student.denoiser.requires_grad_(False)
