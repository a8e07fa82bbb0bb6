"""The folder of a run: who may write to it, its log and its checkpoints."""

import json
import time
from pathlib import Path
from typing import Any

from dlkit.errors import UserError
from dlkit.files import cannot_write, read_json, write_json, write_text
from dlkit.recipe import Recipe

FREE = ("device", "memory", "compile", "log_every", "checkpoint_every")
"""Settings of ``run`` that a resumed run may change."""


class RunFolder:
    """A run's output folder.

    ``run.json`` says what the run is; a folder that holds another run, or anything at all without ``--resume``, is
    refused, but for settings that do not change what is computed (``FREE``); where a run was killed before it wrote
    anything, ``--resume`` starts it. ``log.jsonl`` has one object a
    line; on resume the lines after the checkpoint's step are dropped, so that the log of a resumed run reads like that
    of an uninterrupted one.

    Making the object only looks: the first to write is :meth:`rewind`, so that a run whose data turn out to be wrong
    leaves nothing behind.
    """

    def __init__(self, path: str | Path, command: str, recipe: Recipe, inputs: dict[str, Any], resume: bool) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.log_file = self.path / "log.jsonl"
        self._recipe = recipe
        self._identity = {"command": command, **inputs, "recipe": recipe.to_dict()}
        self._refuse_other_content(resume)

    def _refuse_other_content(self, resume: bool) -> None:
        if self.path.is_file():
            raise UserError(f"{self.path} is a file; give a folder for --out")
        if not self._holds_anything():
            return
        if not (self.path / "run.json").exists():
            raise UserError(f"{self.path} holds other files and no run; give an empty folder")
        if not resume:
            raise UserError(f"{self.path} already holds a run; give an empty folder, or --resume to go on with it")
        self._refuse_other_run()

    def _holds_anything(self) -> bool:
        """Whether there is more here than what a run leaves that was killed before it began."""
        return self.path.is_dir() and any(not path.name.endswith(".tmp") for path in self.path.iterdir())

    def _refuse_other_run(self) -> None:
        file = self.path / "run.json"
        stored = read_json(file)
        if not isinstance(stored, dict) or "recipe" not in stored:
            raise UserError(f"{file} does not describe a run; restore it from a copy, or give another --out")
        stored["recipe"] = Recipe.from_dict(stored["recipe"], where=str(file)).to_dict()
        different = _first_difference(_computed(stored), _computed(json.loads(json.dumps(self._identity))))
        if different:
            raise UserError(f"{self.path} holds another run: {different}; give the same settings, or another --out")

    def rewind(self, step: int, stage: int = 0) -> None:
        """Be ready to go on after a step of a stage: drop the lines of later ones, which will be written again.

        Raises:
            UserError: the folder cannot be written.
        """
        if not (self.path / "run.json").exists():
            write_json(self.path / "run.json", self._identity)
        if not (self.path / "recipe.yaml").exists():
            self._recipe.to_yaml(self.path / "recipe.yaml")
        kept = [line for line in self._lines() if (line.get("stage", 0), line["step"]) <= (stage, step)]
        write_text(self.log_file, "".join(json.dumps(line) + "\n" for line in kept))

    def _lines(self) -> list[dict[str, Any]]:
        """Whole lines; a kill may have cut the last one."""
        lines: list[dict[str, Any]] = []
        if not self.log_file.exists():
            return lines
        for line in self.log_file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                break
            if not isinstance(found, dict) or not isinstance(found.get("step"), int):
                break
            lines.append(found)
        return lines

    def log(self, **values: Any) -> None:
        """Append a line; :meth:`rewind` comes first. Raises ``UserError`` where it cannot be written."""
        try:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise cannot_write(self.log_file, error) from error


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    text = Path(path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _computed(identity: dict[str, Any]) -> dict[str, Any]:
    """What a run is, without the settings that it may change on the way."""
    recipe = identity["recipe"]
    return {**identity, "recipe": {**recipe, "run": {k: v for k, v in recipe["run"].items() if k not in FREE}}}


def _first_difference(stored: Any, given: Any, at: str = "") -> str:
    """Where two settings differ, in words; empty if they do not."""
    if isinstance(stored, dict) and isinstance(given, dict):
        for key in {**stored, **given}:
            words = _first_difference(stored.get(key), given.get(key), f"{at}.{key}".strip("."))
            if words:
                return words
        return ""
    return "" if stored == given else f"{at} was {stored!r} and is now {given!r}"


class Clock:
    """Seconds of work, over resumes."""

    def __init__(self, before: float = 0.0) -> None:
        self._start = time.perf_counter() - before

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start
