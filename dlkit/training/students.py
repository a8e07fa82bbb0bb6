"""What student an objective makes of a teacher's network."""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.backbones.residual import ResidualSpec
from dlkit.denoiser import Denoiser
from dlkit.errors import UserError
from dlkit.generator import Architecture, OneStepGenerator, Teacher, load_student
from dlkit.objectives._base import Objective
from dlkit.recipe import Recipe

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


def guide(folder: str, teacher: Teacher) -> OneStepGenerator:
    """Another student of this teacher, which has a map to follow.

    Raises:
        UserError: there is no such student, it has no map, its texts are not the teacher's, or it was made of another
            teacher, as far as it holds its teacher's weights.
    """
    student = load_student(folder)
    if not student.denoiser.two_times:
        raise UserError(f"map: the student in {folder} has no second time; give the one that residual_psd or psd made")
    own, other = ({key: getattr(model.architecture, key) for key in SHARED} for model in (teacher, student))
    different = [key for key in SHARED if own[key] != other[key]]
    if different:
        raise UserError(f"map: the student in {folder} has another {' and '.join(different)} than the teacher")
    if student.tokenizer.backend.get_vocab() != teacher.tokenizer.backend.get_vocab():
        raise UserError(
            f"map: the student in {folder} has another vocabulary than the teacher; give this one's student"
        )
    if not holds(student.denoiser, teacher.denoiser):
        raise UserError(f"map: the student in {folder} was made of a teacher of other weights; give this one's student")
    student.denoiser.requires_grad_(False)
    return student


def holds(student: Denoiser, teacher: Denoiser) -> bool:
    """Whether the weights that a student has unchanged of its teacher are this one's: its space, its frozen network."""
    pairs: list[tuple[nn.Module, nn.Module]] = [(student.space, teacher.space)]
    if getattr(student.backbone, "residual", False):
        pairs.append((student.backbone.frozen, teacher.backbone))  # type: ignore[arg-type]
    return all(alike(own.state_dict(), known.state_dict()) for own, known in pairs)


def alike(own: dict[str, Tensor], known: dict[str, Tensor]) -> bool:
    """Whether weights are the known ones, up to the rounding of a copy in half precision."""
    near = (
        torch.allclose(own[key], known[key].to(own[key]), rtol=2**-8, atol=1e-7) for key in own.keys() & known.keys()
    )
    return own.keys() == known.keys() and all(near)


def maps(recipe: Recipe, teacher: Teacher) -> dict[str, str]:
    """Fingerprints of the students that the stages' objectives follow, by their folders.

    Raises:
        UserError: as :func:`guide` does.
    """
    folders = (getattr(recipe.objective_of(number), "map", None) for number in range(len(recipe.stages)))
    return {folder: guide(folder, teacher).fingerprint() for folder in folders if folder is not None}
