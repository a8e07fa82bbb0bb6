"""A teacher as the four files of Plaid's own code."""

from pathlib import Path

import torch
from torch import Tensor

from dlkit.backbones.plaid import PlaidSpec
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.files import write_json
from dlkit.schedules.learned_gamma import LearnedGamma
from dlkit.spaces.unit_norm import UnitNormSpec
from dlkit.teachers._base import TeacherParts
from dlkit.teachers._plaid_read import BESIDE, PLACES, Beside, official_name


def write_files(folder: Path, parts: TeacherParts) -> None:
    """Write the weights, the tokenizer and, in ``dlkit.json``, what the original's files have no words for.

    Raises:
        UserError: the original's code has no such space, process, schedule, backbone or prediction.
    """
    lowest = _refuse_others(parts)
    files: dict[str, dict[str, Tensor]] = {name: {} for name in PLACES}
    for name, tensor in parts.state.items():
        file, official = official_name(name)
        files[file][official] = tensor.detach().cpu().contiguous().clone()
    for name, tensors in files.items():
        torch.save(tensors, folder / name)
    parts.tokenizer.save(folder)
    beside = Beside(
        seq_len=parts.seq_len,
        lowest=lowest,
        family=parts.family,
        decoder=parts.decoder,
        sampler=parts.sampler,
        overlong=parts.overlong,
        layout=parts.layout or "pairs",
        fit=parts.fit,
    )
    write_json(folder / BESIDE, beside.model_dump(mode="json"))


def _refuse_others(parts: TeacherParts) -> float:
    """t_min, if the parts are those that the original's code has."""
    wanted = {"space": UnitNormSpec, "process": GaussianProcess, "backbone": PlaidSpec}
    found = {kind: getattr(parts, kind) for kind in wanted}
    for kind, part in found.items():
        if type(part) is not wanted[kind]:
            raise UserError(_no_place(kind, part.registered_name))
    schedule = found["process"].noise_schedule
    if not isinstance(schedule, LearnedGamma):
        raise UserError(_no_place("schedule", schedule.registered_name))
    if parts.prediction != "prior_logits":
        raise UserError(_no_place("prediction", parts.prediction))
    return schedule.lowest


def _no_place(kind: str, name: str) -> str:
    return f"the format plaid has no place for the {kind} {name!r}; only teachers of Plaid's own parts fit"
