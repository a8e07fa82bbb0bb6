"""The ready Recipes."""

import re
from pathlib import Path

import pytest
import yaml

from dlkit import recipes
from dlkit.errors import UserError
from dlkit.recipe import Recipe, Weights

PAPER = ("dlm_one_qqp", "dlm_one_quasar_t", "dlm_one_wiki")

# DiffuSeq's commands: recipe, updates, processes of 2048 samples
COMMANDS = [
    ("diffuseq_qqp", 50_000, 4),
    ("diffuseq_quasar_t", 40_000, 4),
    ("diffuseq_wiki", 80_000, 8),
    ("diffuseq_commonsense", 140_000, 7),
]
MARKED = (*PAPER, *(name for name, *_ in COMMANDS))

# DLM-One's table of hyper-parameters: recipe, stage, mu, (a_dsm, b_adv_psi), (a_sd, b_adv_theta), lr_psi, lr_theta
TABLE = [
    ("dlm_one_qqp", 0, 1.2, (0.5, 0.5), (0.5, 0.5), 3e-5, 1e-5),
    ("dlm_one_qqp", 1, 0.5, (0.5, 0.5), (0.9, 0.1), 1e-5, 1e-5),
    ("dlm_one_quasar_t", 0, 1.2, (0.5, 0.5), (0.5, 0.5), 1e-5, 1e-5),
    ("dlm_one_quasar_t", 1, 1.2, (0.5, 0.5), (0.5, 0.5), 1e-5, 1e-5),
    ("dlm_one_wiki", 0, 1.0, (0.5, 0.5), (0.5, 0.5), 1e-5, 1e-5),
]


@pytest.mark.parametrize(("name", "number", "mu", "psi", "theta", "lr_psi", "lr_theta"), TABLE)
def test_the_table_of_the_paper(
    name: str,
    number: int,
    mu: float,
    psi: tuple[float, float],
    theta: tuple[float, float],
    lr_psi: float,
    lr_theta: float,
) -> None:
    stage = recipes.get(name).stage(number)
    assert stage.objective is not None
    assert stage.objective.spec() == {
        "name": "sid",
        "mu": mu,
        "weight": "l1",
        "reduction": "mean",
        "detach_scores": False,
    }
    assert stage.weights == Weights(a_dsm=psi[0], b_adv_psi=psi[1], a_sd=theta[0], b_adv_theta=theta[1])
    assert (stage.lr_critic, stage.lr_generator) == (lr_psi, lr_theta)
    assert stage.steps == 50_000


@pytest.mark.parametrize("name", PAPER)
def test_what_the_papers_runs_have_in_common(name: str) -> None:
    made = recipes.get(name)
    assert len(made.stages) == sum(row[0] == name for row in TABLE)
    for optimizer in (made.generator, made.critic):
        assert optimizer.betas == (0.0, 0.999)
        assert optimizer.weight_decay == 0.0
    assert (made.generator.lr, made.critic.lr) == (made.stage(0).lr_generator, made.stage(0).lr_critic)
    index = lambda i: (i + 1) / 2000  # noqa: E731 - of DiffuSeq's 2000 times
    times = made.time_sampler.spec()
    assert (times["t_min"], times["t_max"]) == (index(0), index(1976))
    assert made.t_init == index(1490)
    assert made.objective == made.stage(0).objective
    assert made.adv is not None
    assert made.plan.critic_steps_per_generator_step == 1
    assert not made.plan.share_samples
    assert (made.evaluation.every, made.evaluation.metric.registered_name) == (200, "bleu")


@pytest.mark.parametrize("name", MARKED)
def test_the_teacher_is_diffuseqs(name: str) -> None:
    model = recipes.get(name).model
    assert model.process.spec() == {"name": "gaussian", "schedule": {"name": "sqrt", "steps": 2000}}
    assert (model.seq_len, model.space.spec()["dim"], model.tokenizer) == (128, 128, "bert-base-uncased")
    sizes = {"layers": 12, "hidden": 768, "heads": 12, "ff": 3072, "time_dim": 128, "max_positions": 512}
    assert sizes.items() <= model.backbone.spec().items()


@pytest.mark.parametrize(("name", "steps", "processes"), COMMANDS)
def test_diffuseqs_commands(name: str, steps: int, processes: int) -> None:
    fit = recipes.get(name).fit
    assert (fit.steps, fit.batch_size, fit.microbatch) == (steps, 2048 * processes, 64)
    assert (fit.ema, fit.ema_warmup) == (0.9999, False)
    assert fit.time_sampler.spec() == {"name": "loss_second_moment", "history": 10, "uniform": 0.001}
    rate = fit.optimizer
    assert (rate.lr, rate.betas, rate.weight_decay, rate.clip) == (1e-4, (0.9, 0.999), 0.0, None)
    assert (rate.warmup, rate.decay, rate.end) == (0, "linear", 0.0)
    assert rate.eps == 1e-8 / (2048 / 64)  # the original adds up the gradients that are averaged here
    assert recipes.get(name).run.precision == "fp32"


@pytest.mark.parametrize("task", ["qqp", "quasar_t", "wiki"])
def test_the_papers_teachers_are_trained_by_diffuseqs_commands(task: str) -> None:
    ours, original = recipes.get(f"dlm_one_{task}"), recipes.get(f"diffuseq_{task}")
    assert ours.fit == original.fit
    assert ours.model == original.model


@pytest.mark.parametrize("name", MARKED)
def test_every_value_says_where_it_is_from(name: str) -> None:
    """Lines with a key alone open a section and need no mark."""
    for number, line in enumerate(recipes.path(name).read_text().splitlines(), start=1):
        if not line.startswith("#") and not re.fullmatch(r"\s*(- )?\w+:", line):
            assert re.search(r"#.*\b(paper|DiffuSeq|ours)\b", line), f"line {number}: {line}"


@pytest.mark.parametrize("name", MARKED)
def test_every_setting_is_written_out(name: str) -> None:
    """So that each has its mark: of a Recipe for a fit, all that a fit reads."""

    def keys(value: object, at: str = "") -> set[str]:
        if isinstance(value, dict):
            return {path for key, inner in value.items() for path in keys(inner, f"{at}.{key}")}
        return {at}

    written = keys(yaml.safe_load(recipes.path(name).read_text()))
    made = recipes.get(name).to_dict()
    read = made if name in PAPER else {key: made[key] for key in ("decoder", "evaluation", "run", "model", "fit")}
    every_stage_has_its_own = {f".weights.{key}" for key in Weights.model_fields}
    without_a_learned_mean = {".model.family.reg_rate"}  # has no effect with the process of these Recipes
    assert keys(read) - written <= every_stage_has_its_own | without_a_learned_mean


@pytest.mark.parametrize("name", recipes.names())
def test_every_ready_recipe_survives_yaml(name: str, tmp_path: Path) -> None:
    made = recipes.get(name)
    made.to_yaml(tmp_path / "recipe.yaml")
    assert Recipe.from_yaml(tmp_path / "recipe.yaml") == made


def test_names() -> None:
    assert {"demo", "qqp_small", *MARKED} <= set(recipes.names())
    assert recipes.names() == sorted(recipes.names())


def test_a_recipe_is_found_by_name_or_file(tmp_path: Path) -> None:
    recipes.get("demo").to_yaml(tmp_path / "mine.yaml")
    assert recipes.find("demo") == recipes.find(str(tmp_path / "mine.yaml")) == recipes.get("demo")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dlm_one_qpq", "recipes: nothing is called 'dlm_one_qpq'; did you mean 'dlm_one_qqp'?"),
        ("zzz", "recipes: nothing is called 'zzz'; known: demo, "),
        ("nothing.yaml", "cannot read the recipe nothing.yaml: No such file or directory"),
    ],
)
def test_an_unknown_recipe_is_told(name: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        recipes.find(name)
