"""The documentation: its examples run, its tables name every setting, its commands and links exist."""

import itertools
import re
import runpy
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from pydantic import BaseModel

import dlkit
import tiny
from dlkit import recipe, recipes
from dlkit.cli import app
from dlkit.data.grammar import Grammar
from dlkit.registry import KINDS, Registry

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
REGISTRIES: dict[str, Registry] = {kind: getattr(dlkit, kind).registry for kind in KINDS}
SECTIONS = {
    "Recipe": recipe.Recipe,
    "Optimizer": recipe.Optimizer,
    "Guidance": recipe.Guidance,
    "Weights": recipe.Weights,
    "UpdatePlan": recipe.UpdatePlan,
    "Stage": recipe.Stage,
    "Evaluation": recipe.Evaluation,
    "Run": recipe.Run,
    "Model": recipe.Model,
    "Fit": recipe.Fit,
}


def blocks(language: str) -> list[Any]:
    """Every code block of a language that is not marked as a sketch, as a parameter that says where it stands."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^( *)```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            if "# sketch" not in match[2]:
                found.append(pytest.param(textwrap.dedent(match[2]), id=f"{page.relative_to(ROOT)}:{line}"))
    return found


@pytest.fixture(scope="module")
def demo_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples find in ``demo-out``: data, teacher and student, all of them tiny."""
    folder = tmp_path_factory.mktemp("docs")
    data = tiny.corpus(folder / "demo-out/data")
    teacher = tiny.run_fit(data, folder / "fit")
    student = tiny.run_distill(teacher, data, folder / "distill")
    shutil.copytree(teacher, folder / "demo-out/teacher")
    shutil.copytree(student, folder / "demo-out/student")
    return folder / "demo-out"


@pytest.fixture
def registries_without_examples() -> Iterator[None]:
    """What an example registers is gone after it; what it made dlkit import stays."""
    yield
    for registry in REGISTRIES.values():
        for name in [name for name, entry in registry._entries.items() if entry.part.__module__ == "example"]:
            del registry._entries[name]


@pytest.mark.usefixtures("registries_without_examples")
@pytest.mark.parametrize("source", blocks("python"))
def test_examples_run(source: str, demo_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo-out").symlink_to(demo_out)
    (tmp_path / "example.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("example.py", run_name="example")


def page_of(kind: str) -> str:
    """The page of a registry."""
    return (ROOT / f"docs/{kind}.md").read_text(encoding="utf-8")


def own_part(page: str) -> str:
    """The section that says how to add a part."""
    found = re.search(r"^## Add your own\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, "the page has no section '## Add your own'"
    return found[1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_a_registry_names_each_of_its_parts(kind: str) -> None:
    """With formula, paper, and when to use it: no cell is empty."""
    table = {line.split("|")[1].strip(" `"): line for line in page_of(kind).splitlines() if line.startswith("| `")}
    names = REGISTRIES[kind].files()
    assert [name for name in names if name not in table] == []
    cells = {name: [cell.strip() for cell in table[name].strip("|").split("|")] for name in names}
    assert [name for name, found in cells.items() if len(found) < 4 or not all(found)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_every_kind_takes_less_than_forty_lines(kind: str) -> None:
    section = own_part(page_of(kind))
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert f".{kind} import register" in example
    assert example.count("\n") < 40
    assert f'[project.entry-points."dlkit.{kind}"]' in section


def rows(section: str) -> dict[str, Any]:
    """The fields and defaults in the table of a section of docs/recipes.md; a default not in code style is left out."""
    text = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    found = re.search(rf"^### {re.escape(section)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/recipes.md lacks the section '### {section}'"
    cells = re.findall(r"^\| `(\w+)` \| (.*?) \|", found[1], re.MULTILINE)
    return {name: yaml.safe_load(cell.strip("`")) if cell.startswith("`") else ... for name, cell in cells}


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a model; a default that is itself a group of settings is described elsewhere."""
    found = {}
    for name, field in model.model_fields.items():
        value = list(field.default) if isinstance(field.default, tuple) else field.default
        values = value if isinstance(value, list) else [value]
        group = any(isinstance(each, BaseModel) for each in values)
        found[name] = ... if group or field.is_required() else value
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_described(section: str) -> None:
    assert rows(section) == defaults(SECTIONS[section])


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, r in REGISTRIES.items() for name in r.files()])
def test_every_setting_of_a_part_is_described(kind: str, name: str) -> None:
    expected = defaults(REGISTRIES[kind].get(name))
    if expected:
        assert rows(f"{kind}: {name}") == expected


def test_every_public_name_is_described() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    names = [name for name in dlkit.__all__ if not name.startswith("__")]
    assert [name for name in names if not re.search(rf"\bdlkit\.{name}\b", text)] == []
    assert [name for name in names if not hasattr(dlkit, name)] == []


def test_every_ready_recipe_is_described() -> None:
    text = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    assert [name for name in recipes.names() if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("source", blocks("sh"))
def test_commands_exist(source: str) -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in source.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        words = list(itertools.dropwhile(lambda word: "=" in word or word in ("do", "|"), words))
        if words[:1] == ["dlkit"] and words[1:2] != ["COMMAND"]:
            assert words[1] in commands, line
            known = {option for parameter in commands[words[1]].params for option in parameter.opts}
            assert {word for word in words[2:] if word.startswith("-") and word != "-"} <= known | {"--help"}, line
        elif words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets, line
        elif words[:1] == ["python"] and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), line


WALKS = {  # from lines of text to students: sections whose commands follow one another
    "start": ["Text without a source"],
    "flm": ["Fit one"],
    "plaid": ["Train one", "How likely a text is"],
    "flow_maps": ["Use", "The first release"],
}
TINY = {  # what makes every command small, put behind what the page says
    "flm_lm1b": ["model.backbone={name: flm, layers: 1, hidden: 16, heads: 2, cond: 8}"],
    "plaid_small": ["model.backbone={name: plaid, layers: 1, hidden: 16, heads: 2}"],
    "train": ["model.tokenizer=train:word:200", "model.seq_len=24", "fit.steps=2", "fit.batch_size=8"],
    "distill": ["stages=[{steps: 2}]", "batch_size=4"],
    "both": ["evaluation={n_sources: 2, num_samples: 1, steps: 2, every: 2, metric: null}", "run.device=cpu"],
}


def walk(page: str, section: str) -> list[list[str]]:
    """The commands of a section, as words."""
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/{page}.md has no section {section!r}"
    sources = re.findall(r"^ *```sh\n(.*?)^ *```", found[1], re.MULTILINE | re.DOTALL)
    lines = "".join(sources).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line))]


def tiny_one(words: list[str]) -> list[str]:
    """A command with what makes it small; what the page says is read all the same."""
    program, command, *options = words
    assert program == "dlkit"
    if command not in ("train", "distill"):
        few = {"nll": ["--draws", "1", "--limit", "8"]}.get(command, ["--samples", "4"])
        return [command, *options, *few]
    settings = [*TINY.get(options[options.index("--recipe") + 1], []), *TINY[command], *TINY["both"]]
    return [command, *options, *itertools.chain.from_iterable(("--set", setting) for setting in settings)]


@pytest.mark.filterwarnings("ignore:.*is longer than these:dlkit.errors.Notice")  # a warm-up; the run is made tiny
@pytest.mark.parametrize("page", WALKS)
def test_text_without_a_source_can_be_walked(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the page, one after another, in a folder that holds nothing but ``my-texts``."""
    (tmp_path / "my-texts").mkdir()
    for split, count in {"train": 60, "valid": 8, "test": 8}.items():
        texts = [pair.trg for pair in Grammar().pairs(split, count)]
        (tmp_path / f"my-texts/{split}.txt").write_text("\n".join(texts), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    teacher = walk("flm", "Fit one")[:1] if page == "flow_maps" else []
    for words in [*teacher, *itertools.chain.from_iterable(walk(page, section) for section in WALKS[page])]:
        typer.main.get_command(app)(tiny_one(words), standalone_mode=False)


def anchors(page: Path) -> set[str]:
    """What a link may name after ``#``: the headings in lower case, hyphens for blanks, no punctuation."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(page: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = page.parent / file if file else page
    return target.exists() and (not anchor or anchor in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]
    assert [link for link in local if not leads_somewhere(page, link)] == []


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert set(files_in(nav)) == pages


def files_in(entry: Any) -> list[str]:
    """The files below an entry of the navigation."""
    if isinstance(entry, str):
        return [entry]
    return [file for below in (entry.values() if isinstance(entry, dict) else entry) for file in files_in(below)]
