"""The speed-up that the report extrapolates is what a full run of the shipped teacher costs."""

import time
from pathlib import Path

import pytest

import dlkit
from dlkit.data.grammar import Grammar
from dlkit.evaluation.timing import time_models
from dlkit.generator import OneStepGenerator, load_teacher


@pytest.mark.slow
def test_two_thousand_steps_cost_what_was_extrapolated_and_a_thousand_students() -> None:
    teacher = load_teacher(Path(dlkit.__file__).parent / "models/demo")
    one_step = teacher.architecture.replace(sampler={"name": "one_step", "t_init": 1.0})
    student = OneStepGenerator(teacher.denoiser, teacher.tokenizer, one_step, teacher.recipe)
    sources = [pair.src for pair in Grammar().pairs("test", 8)]
    seconds = time_models(teacher, student, sources)["seconds"]
    start = time.perf_counter()
    teacher.generate(sources, sampler={"name": "ancestral", "rounding": True}, steps=2000, batch_size=len(sources))
    measured = time.perf_counter() - start
    print(
        f"{measured:.2f} s measured, {seconds['ancestral_rounded_full']:.2f} s extrapolated, {seconds['student']:.4f} s"
    )
    assert 0.6 < measured / seconds["ancestral_rounded_full"] < 1.6
    assert measured / seconds["student"] >= 1000
