"""Runs that are prepared as real ones are, and counted instead of started."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agents.errors import UnknownRun
from agents.model import Run, RunState
from agents.recipes import Book, Recipe
from agents.runs import Prepared
from agents.runs.preparing import digest_of
from agents.worktrees import TreeState
from hub.auth.model import Principal

ROOT = Path("/nowhere")


class CountedRuns:
    """Starts nothing, and knows what it would have started. Safe in several threads."""

    def __init__(self, book: Book, output: str = "") -> None:
        """``output`` is what every run is said to have written."""
        self.book = book
        self.tree = 0  # another number is another commit
        self.started: list[tuple[str, Prepared]] = []
        self._lock = threading.Lock()
        self._shown = Run("r1", "w", "tests", "k", RunState.FAILED, "c", output=output, output_bytes=len(output))

    def prepare(
        self, _who: Principal, workspace: str, name: str, arguments: Mapping[str, str], patch: str, changes: bool
    ) -> Prepared:
        recipe = self.book.recipe(name)
        assert recipe is not None, "nothing is prepared that the policy does not let pass"
        values, steps = recipe.filled(arguments), self.book.steps_of(recipe, workspace)
        state = TreeState(f"{self.tree:040x}", f"{self.tree:040x}", f"{self.tree}" if changes else "")
        digest = digest_of(workspace, ROOT, recipe, steps, values, state, patch)
        return Prepared(workspace, ROOT, recipe, steps.commands(values), state, changes, patch, {}, digest)

    def start(self, who: Principal, prepared: Prepared, _session: str) -> Run:
        with self._lock:
            self.started.append((who.key_id, prepared))
        return replace(self._shown, workspace=prepared.workspace, recipe=prepared.recipe.name, asked_by=who.key_id)

    def check_session(self, *_asked: object) -> None:
        """Any will do."""

    def run(self, run_id: str, _who: Principal) -> Run:
        if run_id != self._shown.id:
            raise UnknownRun("There is no such run.", "Call job without an id.")
        return self._shown

    def wait(self, run_id: str, who: Principal, *_waiting: object) -> Run:
        return self.run(run_id, who)

    def cancel(self, run_id: str, who: Principal) -> Run:
        return self.run(run_id, who)

    def runs(self, _who: Principal, _workspace: str | None = None) -> tuple[Run, ...]:
        return (self._shown,)

    def recipes(self, *_asked: object) -> tuple[Recipe, ...]:
        return self.book.recipes
