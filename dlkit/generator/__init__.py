"""What a user holds: a model that writes text, with everything it needs in one folder."""

from dlkit.generator.architecture import Architecture
from dlkit.generator.loading import load, load_student, load_teacher, read_official
from dlkit.generator.one_step import OneStepGenerator
from dlkit.generator.teacher import Teacher
from dlkit.generator.text_model import TextModel, candidates, sample_keys

__all__ = [
    "Architecture",
    "OneStepGenerator",
    "Teacher",
    "TextModel",
    "candidates",
    "load",
    "load_student",
    "load_teacher",
    "read_official",
    "sample_keys",
]
