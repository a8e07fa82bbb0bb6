"""What a user holds: saving, loading, writing texts, and one line for each mistake."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dlkit import decoders
from dlkit.data.tokenizer import Tokenizer, make_tokenizer
from dlkit.errors import Notice, UserError
from dlkit.generator import (
    Architecture,
    OneStepGenerator,
    Teacher,
    TextModel,
    load,
    load_student,
    load_teacher,
    sample_keys,
    text_model,
    writing,
)
from dlkit.generator.writing import Captured, CompiledNetwork
from dlkit.kernels._twin import has_compiler
from dlkit.metrics._mbr import mbr
from dlkit.part import from_spec
from dlkit.recipe import Recipe
from dlkit.samplers.ddim import Ddim
from dlkit.samplers.one_step import OneStep
from dlkit.samplers.renoise import Renoise

SOURCES = ["the cat sat", "a dog", "the dog sat on the mat", "who is it ?"]
SAMPLERS: list[dict[str, Any]] = [
    {},
    {"steps": 3},
    {"sampler": "ddim", "steps": 4},
    {"sampler": {"name": "ancestral", "rounding": True}, "steps": 3},
    {"sampler": "ddim", "steps": 2, "decoder": "nearest"},
    {"decoder": {"name": "nearest", "metric": "cosine"}},
    {"decoder": {"name": "logits", "temperature": 2.0, "top_k": 20, "top_p": 0.9}},
]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return make_tokenizer("train:word:40", [*SOURCES, "one two three four five six seven eight nine ten"])


def build(kind: type[TextModel], tokenizer: Tokenizer, **settings: Any) -> Any:
    backbone = {"name": "diffuseq", "layers": 1, "hidden": 16, "heads": 2, "ff": 32, "time_dim": 8, "max_positions": 24}
    architecture = Architecture.model_validate(
        {
            "family": "diffuseq",
            "space": {"name": "embedding", "dim": 8},
            "process": {"name": "gaussian", "schedule": {"name": "sqrt", "steps": 100}},
            "backbone": backbone,
            "decoder": "linear_head",
            "sampler": "one_step" if kind is OneStepGenerator else {"name": "ddim", "steps": 5},
            "vocab_size": tokenizer.vocab_size,
            "seq_len": 24,
            **settings,
        }
    )
    return kind(architecture.build(seed=3), tokenizer, architecture, Recipe())


@pytest.fixture(scope="session")
def student(tokenizer: Tokenizer) -> OneStepGenerator:
    return build(OneStepGenerator, tokenizer)


@pytest.fixture(scope="session")
def teacher(tokenizer: Tokenizer) -> Teacher:
    return build(Teacher, tokenizer)


@pytest.fixture
def folder(student: OneStepGenerator, tmp_path: Path) -> Path:
    student.save_pretrained(tmp_path / "student")
    return tmp_path / "student"


@pytest.mark.parametrize("options", SAMPLERS, ids=str)
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_a_text_does_not_depend_on_its_batch(kind: str, options: dict, request: pytest.FixtureRequest) -> None:
    model: TextModel = request.getfixturevalue(kind)
    together = model.generate_tokens(SOURCES, num_samples=3, seed=5, **options)
    assert [len(group) for group in together] == [3] * len(SOURCES)
    for batch_size in (1, 2, 5):
        assert model.generate_tokens(SOURCES, num_samples=3, seed=5, batch_size=batch_size, **options) == together
    assert model.generate_tokens(SOURCES[::-1], num_samples=3, seed=5, **options) == together[::-1]
    assert model.generate_tokens(SOURCES[1:2], num_samples=1, seed=5, **options) == [together[1][:1]]
    assert model.generate_tokens([SOURCES[0]] * 2, num_samples=3, seed=5, **options) == [together[0]] * 2
    assert model.generate_tokens(SOURCES, num_samples=3, seed=6, **options) != together


@pytest.mark.parametrize(
    ("length", "dim", "most"), [(128, 128, 256), (128, 4096, 256), (128, 30_522, 34), (8, 2**26, 1)]
)
def test_what_is_written_at_once_is_no_more_than_memory_holds(
    length: int, dim: int, most: int, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 texts, or as many as have states of 2^27 numbers."""
    monkeypatch.setattr(type(teacher.denoiser.space), "dim", property(lambda _: dim))
    monkeypatch.setattr(teacher, "architecture", teacher.architecture.model_copy(update={"seq_len": length}))
    assert teacher.at_once() == most
    assert most == 256 or most * length * dim <= 2**27 or most == 1
    assert teacher.at_once(1000) == 1000


def test_large_states_are_written_a_few_at_once(student: OneStepGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    together = student.generate_tokens(SOURCES, num_samples=3, seed=5)
    monkeypatch.setattr(text_model, "NUMBERS", 5 * 24 * student.denoiser.space.dim + 1)
    sizes: list[int] = []
    observe = lambda k, t, x_t, x0: sizes.append(len(x_t))  # noqa: E731
    assert student.generate_tokens(SOURCES, num_samples=3, seed=5, observe=observe) == together
    assert sizes == [5, 5, 2]


def test_the_samples_of_a_source_differ(student: OneStepGenerator) -> None:
    (samples,) = student.generate_tokens(SOURCES[:1], num_samples=8)
    assert len({tuple(ids) for ids in samples}) > 1


def test_every_source_and_sample_has_noise_of_its_own(student: OneStepGenerator) -> None:
    states: list[torch.Tensor] = []
    student.generate(SOURCES, num_samples=3, observe=lambda k, t, x_t, x0: states.append(x_t[:, -1]))
    assert len({tuple(row) for row in states[0].tolist()}) == 3 * len(SOURCES)


def test_global_randomness_is_neither_used_nor_moved(student: OneStepGenerator, tokenizer: Tokenizer) -> None:
    before = torch.random.get_rng_state()
    twin = build(OneStepGenerator, tokenizer)
    assert student.generate(SOURCES) == twin.generate(SOURCES)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(twin.architecture.build(seed=4).space.table, twin.denoiser.space.table)


def test_texts_end_at_the_first_end_mark(student: OneStepGenerator, tokenizer: Tokenizer) -> None:
    cls, sep, pad = tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id
    assert student.until_end([cls, 7, 8, sep, 9, sep, pad]) == [7, 8]
    assert student.until_end([7, 8]) == [7, 8]
    assert student.until_end([cls, sep, 7]) == student.until_end([]) == []
    tokens = student.generate_tokens(SOURCES, num_samples=2)
    texts = [[tokenizer.decode(student.until_end(ids)) for ids in group] for group in tokens]
    assert student.generate(SOURCES, num_samples=2) == texts


def test_only_free_positions_are_written(student: OneStepGenerator, tokenizer: Tokenizer) -> None:
    for source, (ids,) in zip(SOURCES, student.generate_tokens(SOURCES), strict=True):
        assert len(ids) == 24 - len(tokenizer.encode(source)) - 1


def test_no_sources_no_texts(student: OneStepGenerator) -> None:
    assert student.generate([]) == student.generate([], mbr=3) == []


def test_what_a_decoder_draws_is_a_function_of_seed_sample_and_position(student: OneStepGenerator) -> None:
    x = torch.zeros(3, 6, student.denoiser.space.dim)  # the same logits everywhere: what differs, was drawn
    hot: Any = from_spec(decoders.registry, {"name": "logits", "temperature": 50.0})
    keys = sample_keys(SOURCES[:1], 3)
    drawn = student.read(x, keys, 0, hot)
    assert torch.equal(student.read(x, keys, 0, hot), drawn)
    assert torch.equal(student.read(x[:1], keys[2:], 0, hot), drawn[2:])
    assert torch.equal(student.read(x[:, :4], keys, 0, hot), drawn[:, :4])  # a longer text goes on as a shorter one
    assert not torch.equal(student.read(x, keys, 1, hot), drawn)
    assert len({tuple(row) for row in drawn.tolist()}) == 3
    assert len(set(drawn[0].tolist())) > 1


def test_a_cold_draw_is_the_highest_logit(student: OneStepGenerator) -> None:
    expected = student.generate_tokens(SOURCES, decoder="linear_head")
    for cold in ({"temperature": 0.0}, {"top_k": 1}):
        assert student.generate_tokens(SOURCES, decoder={"name": "logits", **cold}) == expected


def test_minimum_bayes_risk_chooses_among_the_samples(student: OneStepGenerator) -> None:
    samples = student.generate(SOURCES, num_samples=5, seed=2)
    chosen = student.generate(SOURCES, mbr=5, seed=2)
    assert chosen == mbr(samples)
    assert all(len(group) == 1 for group in chosen)
    assert chosen != [group[:1] for group in samples]
    assert student.generate(SOURCES[:1], num_samples=5, mbr=5, seed=2, batch_size=2) == chosen[:1]


def test_calls_are_observed(student: OneStepGenerator, teacher: Teacher) -> None:
    times: list[float] = []
    student.generate(SOURCES, observe=lambda k, t, x_t, x0: times.append(t))
    assert times == [0.7455]
    times.clear()
    teacher.generate(SOURCES, observe=lambda k, t, x_t, x0: times.append(t))
    assert times[0] == 1.0 and times[-1] == 0.01 and len(times) == 5


def test_which_sampler_is_used(student: OneStepGenerator, teacher: Teacher) -> None:
    assert student.choose_sampler(None, None) == student.choose_sampler(None, 1) == OneStep()
    assert student.choose_sampler(None, 4) == Renoise(steps=4)
    assert student.choose_sampler("ddim", 10) == Ddim(steps=10)
    assert teacher.choose_sampler(None, None) == Ddim(steps=5)
    assert teacher.choose_sampler(None, 100) == teacher.choose_sampler(Ddim(rounding=False), 100) == Ddim(steps=100)
    assert teacher.choose_sampler({"name": "ddim", "rounding": True}, 7) == Ddim(steps=7, rounding=True)


def test_a_named_sampler_keeps_what_the_student_was_taught(student: OneStepGenerator) -> None:
    own = OneStep(t_init=1.0, codes=8, codes_seed=3)
    taught = OneStepGenerator(
        student.denoiser, student.tokenizer, student.architecture.replace(sampler=own.spec()), student.recipe
    )
    several = Renoise(steps=3, t_init=1.0, codes=8, codes_seed=3)
    assert taught.choose_sampler("renoise", 3) == taught.choose_sampler(None, 3) == several
    assert taught.choose_sampler({"name": "renoise", "t_init": 0.5}, 3) == several.replace(t_init=0.5)
    assert taught.choose_sampler("ddim", 10) == Ddim(steps=10)
    with pytest.raises(UserError, match=r"sampler 'flow_map': this student never learnt to jump"):
        taught.choose_sampler("flow_map", 2)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_saving_and_loading_change_nothing(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model: TextModel = request.getfixturevalue(kind)
    model.save_pretrained(tmp_path / "run" / kind)
    for path in (tmp_path / "run" / kind, tmp_path / "run"):  # the folder itself, or that of the run around it
        again = load(path)
        assert type(again) is type(model)
        assert again.generate(SOURCES, num_samples=2, seed=1) == model.generate(SOURCES, num_samples=2, seed=1)
        assert again.architecture == model.architecture
        assert again.recipe == model.recipe
        assert again.fingerprint() == model.fingerprint()
        assert not again.denoiser.training
    assert "space.lm_head.weight" not in load_file(tmp_path / "run" / kind / "model.safetensors")
    head = again.denoiser.space.lm_head
    assert head.weight is again.denoiser.space.word_embedding.weight


def test_half_precision_files(student: OneStepGenerator, tmp_path: Path) -> None:
    student.save_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    state = load_file(tmp_path / "half" / "model.safetensors")
    assert state["space.word_embedding.weight"].dtype == torch.bfloat16
    assert state["backbone.position_ids"].dtype == torch.int64
    assert load_student(tmp_path / "half").denoiser.space.table.dtype == torch.float32


def test_saving_again_replaces_the_folder(student: OneStepGenerator, folder: Path) -> None:
    (folder / "left over").write_text("")
    student.save_pretrained(folder)
    assert not (folder / "left over").exists()
    assert load_student(folder).generate(SOURCES) == student.generate(SOURCES)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"steps": 101}, "steps=101 is more than the 100 steps"),
        ({"sampler": "ddim", "steps": 101}, "steps=101 is more than the 100 steps"),
        ({"sampler": {"name": "ddim", "grid": "ddim99"}}, "no whole stride leaves 99 of 100 steps"),
        ({"sampler": {"name": "ddim", "grid": "ddim20"}, "steps": 5}, "steps=5 contradicts grid 'ddim20'"),
        ({"sampler": "one_step", "steps": 2}, "steps"),
        ({"sampler": "dimm"}, "did you mean 'ddim'"),
        ({"sampler": {"name": "ddim", "step": 3}}, "did you mean 'steps'"),
        ({"decoder": "neerest"}, "did you mean 'nearest'"),
        ({"decoder": {"name": "logits", "top_p": 2.0}}, "top_p"),
        ({"mbr": 1}, "mbr=1: give 0 for none, or at least 2 candidates"),
        ({"mbr": -1}, "mbr=-1: give 0 for none"),
        ({"mbr": 4, "num_samples": 2}, "give one of the two"),
        ({"num_samples": 0}, "num_samples and batch_size must be at least 1"),
        ({"batch_size": 0}, "num_samples and batch_size must be at least 1"),
    ],
    ids=str,
)
def test_options_out_of_range(student: OneStepGenerator, options: dict[str, Any], complaint: str) -> None:
    told_in_one_line(lambda: student.generate(SOURCES, **options), complaint)


def told_in_one_line(mistake: Callable[[], Any], complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        mistake()
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_text_is_not_a_list(student: OneStepGenerator) -> None:
    told_in_one_line(lambda: student.generate("the cat"), "write [text]")


def test_a_source_that_does_not_fit(tokenizer: Tokenizer) -> None:
    strict = build(OneStepGenerator, tokenizer, overlong="refuse")
    assert strict.generate(SOURCES) == build(OneStepGenerator, tokenizer).generate(SOURCES)
    told_in_one_line(lambda: strict.generate([SOURCES[0], "cat " * 60]), "source 2")
    assert len(build(OneStepGenerator, tokenizer).generate(["cat " * 60])) == 1  # truncated


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def edit_weights(folder: Path, **changes: Any) -> None:
    state = load_file(folder / "model.safetensors")
    state.update(changes)
    save_file({k: v for k, v in state.items() if v is not None}, folder / "model.safetensors")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def build_settings(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())["backbone"]


LAYER_NORM = "backbone.LayerNorm.bias"
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "it has no config.json"),
    "config cut": (lambda f: cut(f / "config.json"), "config.json is damaged"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "config.json"),
    "newer format": (lambda f: edit_config(f, format=2), "this version reads format 1"),
    "unknown kind": (lambda f: edit_config(f, kind="critic"), "critic"),
    "no vocab_size": (lambda f: edit_config(f, vocab_size=None), "config.json lacks vocab_size"),
    "longer than its positions": (
        lambda f: edit_config(f, seq_len=99),
        "seq_len=99 is more than backbone.max_positions",
    ),
    "no room for words": (lambda f: edit_config(f, vocab_size=-3), "vocab_size"),
    "wrong type": (lambda f: edit_config(f, seq_len="long"), "seq_len"),
    "unknown part": (lambda f: edit_config(f, sampler={"name": "one_stepp"}), "did you mean 'one_step'"),
    "other size": (lambda f: edit_config(f, space={"name": "embedding", "dim": 9}), "config.json implies"),
    "huge vocabulary": (lambda f: edit_config(f, vocab_size=10_000_000), "config.json implies (10000000, 8)"),
    "huge width": (lambda f: edit_config(f, space={"name": "embedding", "dim": 65_536}), "config.json implies"),
    "width beyond reason": (lambda f: edit_config(f, space={"name": "embedding", "dim": 10**30}), "space"),
    "fewer words": (lambda f: edit_config(f, vocab_size=9), "config.json implies (9, 8)"),
    "deeper": (
        lambda f: edit_config(f, backbone={**build_settings(f), "layers": 3}),
        "lacks backbone.input_transformers.layer.1.",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "weights cut": (lambda f: cut(f / "model.safetensors"), "damaged or cut short"),
    "weights empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "damaged or cut short"),
    "tensor missing": (lambda f: edit_weights(f, **{LAYER_NORM: None}), f"lacks {LAYER_NORM}"),
    "tensor unknown": (lambda f: edit_weights(f, extra=torch.ones(2)), "has the unknown extra"),
    "tensor misshapen": (lambda f: edit_weights(f, **{LAYER_NORM: torch.ones(3)}), f"{LAYER_NORM} has shape (3,)"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
    "another tokenizer": (
        lambda f: make_tokenizer("train:word:60", [" ".join(f"w{k}" for k in range(60))]).save(f),
        "tokenizer has 60 ids",
    ),
    "no recipe": (lambda f: (f / "recipe.yaml").unlink(), "recipe.yaml"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_folders(folder: Path, damage: tuple[Callable[[Path], Any], str]) -> None:
    assert load(folder).generate(["a dog"])  # it is whole before
    harm, complaint = damage
    harm(folder)
    told_in_one_line(lambda: load(folder), complaint)


def test_a_record_need_not_go_together(folder: Path) -> None:
    """What a run did is not asked again when its model writes; the same settings as a request are refused."""
    file = folder / "recipe.yaml"
    file.write_text(file.read_text().replace("generator_input: noise", "generator_input: noised_data"))
    assert load(folder).generate(["a dog"])
    with pytest.raises(UserError, match="generator_input=noised_data"):
        Recipe.from_yaml(file)
    file.write_text(file.read_text().replace("generator_input: noised_data", "generator_input: noisy"))
    told_in_one_line(lambda: load(folder), "generator_input")


@pytest.mark.parametrize("vocab_size", [10_000_000, 9])
def test_a_network_is_not_built_before_its_weights_are_known_to_fit(
    vocab_size: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[str] = []
    fresh = Architecture.build

    def watched(self: Architecture, seed: int = 0) -> Any:
        built = fresh(self, seed)
        devices.append(built.space.table.device.type)
        return built

    monkeypatch.setattr(Architecture, "build", watched)
    load(folder)
    assert devices == ["meta", "cpu"]
    edit_config(folder, vocab_size=vocab_size)
    told_in_one_line(lambda: load(folder), "config.json implies")
    assert devices == ["meta", "cpu", "meta"]


def test_folders_that_are_not_models(tmp_path: Path, folder: Path) -> None:
    told_in_one_line(lambda: load_student(tmp_path / "nowhere"), "does not exist")
    (tmp_path / "empty").mkdir()
    told_in_one_line(lambda: load_student(tmp_path / "empty"), "is not a model folder")
    told_in_one_line(lambda: load_teacher(folder), "holds a student, not a teacher; give the folder of a teacher")


FLAT: dict[str, Any] = {"vocab_size": 40, "sampler": {"name": "ddim", "steps": 4}}
FAMILIES: dict[str, dict[str, Any]] = {
    "diffuseq": {},
    "plaid": {
        **{"family": "plaid", "space": {"name": "unit_norm", "dim": 8}, "prediction": "prior_logits"},
        **{"process": {"name": "gaussian", "schedule": "learned_gamma"}, "layout": "padded"},
        **{"backbone": {"name": "plaid", "layers": 2, "hidden": 16, "heads": 2}, **FLAT},
    },
    "flm": {
        **{"family": "flm", "space": "one_hot", "prediction": "logits", "layout": "padded"},
        **{"process": {"name": "gaussian", "schedule": {"name": "token_accuracy", "vocab_size": 40}}},
        **{"backbone": {"name": "flm", "layers": 2, "hidden": 16, "heads": 2, "cond": 8}, **FLAT},
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_rounds_matrices_and_nothing_else(family: str, tokenizer: Tokenizer) -> None:
    model = build(Teacher, tokenizer, **FAMILIES[family])
    with torch.no_grad():
        for parameter in model.denoiser.backbone.parameters():  # also those that begin at zero
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    wide, low = copy.deepcopy(model.denoiser), model.to(dtype=torch.bfloat16).denoiser
    kept = {f"backbone.{name}" for name in getattr(low.backbone, "full_precision", ())}
    rounded = {f"backbone.{name}" for name, part in low.backbone.named_modules() if isinstance(part, torch.nn.Linear)}
    assert model.precision == "bfloat16" and rounded > kept
    for name, tensor in low.state_dict().items():
        before, lower = wide.state_dict()[name], name.rpartition(".")[0] in rounded - kept
        assert tensor.dtype == (torch.bfloat16 if lower else before.dtype), name
        assert torch.equal(tensor, before.to(tensor.dtype)), name
    x = torch.randn(3, 24, low.space.dim, generator=torch.Generator().manual_seed(2))
    t, cond = torch.full((3,), 0.6, dtype=torch.float64), None
    want = frozenset({"x0", "logits"})
    with torch.inference_mode():
        one, other = low.predict(x, t, cond, want=want), wide.predict(x, t, cond, want=want)
        with torch.autocast("cpu", torch.bfloat16):
            trained = wide.predict(x, t, cond).x0
    assert one.x0.dtype == torch.float32
    assert 0.0 < (one.x0 - other.x0).norm() < 0.05 * other.x0.norm()
    torch.testing.assert_close(one.x0, trained.float(), rtol=1e-2, atol=1e-2)
    assert model.to(dtype=torch.float32).precision == "float32"
    assert all(tensor.dtype != torch.bfloat16 for tensor in model.denoiser.state_dict().values())


def test_bf16_is_chosen_when_a_model_is_read(folder: Path) -> None:
    low = load(folder, dtype=torch.bfloat16)
    assert low.precision == "bfloat16" and load_student(folder).precision == "float32"
    assert low.denoiser.space.like.dtype == torch.float32
    together = low.generate_tokens(SOURCES, num_samples=2)
    assert low.generate_tokens(SOURCES[::-1], num_samples=2, batch_size=3) == together[::-1]
    low.save_pretrained(folder.parent / "low")  # a folder holds what there is
    assert load(folder.parent / "low", dtype=torch.bfloat16).generate_tokens(SOURCES, num_samples=2) == together
    with pytest.raises(ValueError, match=r"not torch\.int8"):
        low.to(dtype=torch.int8)


def test_guidance_is_computed_in_bf16_too(tokenizer: Tokenizer) -> None:
    teacher = build(Teacher, tokenizer, condition_dropout=0.1).to(dtype=torch.bfloat16)
    assert teacher.guided(2.0).lower == torch.bfloat16
    assert teacher.generate(SOURCES, guidance=2.0, steps=2)


ALIKE: list[tuple[str, dict[str, Any], type]] = [
    ("student", {}, Captured),
    ("student", {"steps": 2}, Captured),
    ("student", {"sampler": {"name": "one_step", "codes": 7}}, Captured),
    ("student", {"decoder": {"name": "logits", "temperature": 2.0, "top_k": 20, "top_p": 0.9}}, Captured),
    ("teacher", {"steps": 6}, CompiledNetwork),
    ("teacher", {"steps": 6, "sampler": {"name": "ancestral", "rounding": True}}, CompiledNetwork),
    ("teacher", {"steps": 6, "sampler": "dpm_solver_pp_2m"}, CompiledNetwork),
]


@pytest.mark.slow
@pytest.mark.compile
@pytest.mark.parametrize(("kind", "options", "way"), ALIKE, ids=str)
def test_compiled_texts_are_the_same(kind: str, options: dict, way: type, request: pytest.FixtureRequest) -> None:
    model: TextModel = request.getfixturevalue(kind)
    for seed in (5, 6):  # of two seeds the graph is the same
        expected = model.generate_tokens(SOURCES, num_samples=3, seed=seed, **options)
        assert model.generate_tokens(SOURCES, num_samples=3, seed=seed, compile=True, **options) == expected
    made = list(model._graphs.values())[-1]
    assert type(made) is way and made.size == 16
    assert model.generate_tokens(SOURCES[:1], num_samples=13, seed=6, compile=True, **options)  # 16 hold these too
    assert list(model._graphs.values())[-1] is made
    if way is CompiledNetwork:
        return
    graph = model.captured(16, **options)
    assert graph is made
    ids, mask = model.encode(SOURCES)
    found = graph(ids, mask, sample_keys(SOURCES, 1), seed=6)
    if "codes" not in str(options):  # of which samples of a source take another each
        assert [row[keep].tolist() for row, keep in zip(found, mask, strict=True)] == [g[0] for g in expected]
    with pytest.raises(ValueError, match="1 to 16 rows, not 17"):
        graph(ids[:1].expand(17, -1), mask[:1].expand(17, -1), torch.arange(17))


@pytest.mark.slow
@pytest.mark.compile
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_compiled_text_follows_the_weights(dtype: torch.dtype, tokenizer: Tokenizer) -> None:
    student = build(OneStepGenerator, tokenizer).to(dtype=dtype)
    before = student.generate_tokens(SOURCES, compile=True)
    with torch.no_grad():
        for parameter in student.denoiser.backbone.parameters():
            parameter.mul_(-1.5)
    after = student.generate_tokens(SOURCES, compile=True)
    assert alike(after, student.generate_tokens(SOURCES)) > 0.9 > alike(after, before)


def alike(some: list[list[list[int]]], others: list[list[list[int]]]) -> float:
    """Share of equal tokens: in bf16 compiled code rounds at other places."""
    pairs = [pair for one, other in zip(some, others, strict=True) for pair in zip(one[0], other[0], strict=True)]
    return sum(token == twin for token, twin in pairs) / len(pairs)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def missing() -> None:
        raise RuntimeError("no g++")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", missing)
    has_compiler.cache_clear()
    yield
    has_compiler.cache_clear()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_a_notice_says_so_once(student: OneStepGenerator) -> None:
    expected = student.generate(SOURCES)
    with pytest.warns(Notice, match="nothing can be compiled for cpu.*no g") as told:
        assert student.generate(SOURCES, compile=True) == expected
    assert len(told) == 1
    assert student.generate(SOURCES, compile=True) == expected  # a second notice would be an error
    with pytest.raises(UserError, match="there is no compiler here"):
        student.captured()


def test_only_few_calls_are_captured(student: OneStepGenerator, teacher: Teacher) -> None:
    with pytest.raises(UserError, match="5 network calls are too many for one graph, which takes 4; set steps=4"):
        teacher.captured()
    with pytest.raises(UserError, match="batch_size must be at least 1, not 0"):
        student.captured(0)
    assert student.generate([], compile=True) == []


@pytest.mark.parametrize(
    ("count", "most", "size"), [(1, 256, 1), (3, 256, 4), (4, 256, 4), (300, 256, 256), (9, 12, 12)]
)
def test_compiled_batches_have_few_sizes(count: int, most: int, size: int) -> None:
    assert writing.size_for(count, most) == size
