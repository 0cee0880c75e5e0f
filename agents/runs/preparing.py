"""What exactly a run would do, worked out before anybody is asked, and told to whoever decides. Runs nothing."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from agents.model import Limits
from agents.patches import Patch
from agents.recipes import Does, Recipe
from agents.text import one_line
from agents.worktrees import TreeState
from hub.auth.model import Principal
from hub.prompting import visible

MOST_TOLD_CHARS = 16_000  # of JSON; a request for approval takes 20,000
# Paths of a list and characters of a patch that are told, as far as there is room: JSON takes six bytes for a letter.
_ROOMS = ((60, 8_000), (60, 4_000), (30, 2_000), (10, 1_000), (5, 400), (1, 100))
_MOST_PATH_CHARS = 200


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that could be started: everything that it will do is fixed."""

    workspace: str
    root: Path
    recipe: Recipe
    commands: tuple[tuple[str, ...], ...]
    state: TreeState  # of the tree, with or without the changes that are not committed
    changes: bool  # whether those are in it
    patch: str
    told: Mapping[str, object]  # what a person decides by
    digest: str  # of all of it
    branch: str = ""
    message: str = ""

    @property
    def commit(self) -> str:
        return self.state.commit

    @property
    def bound(self) -> str:
        """What an approval is bound to."""
        return f"{self.commit} {self.digest}"


def digest_of(
    workspace: str, root: Path, recipe: Recipe, steps: Recipe, values: Mapping[str, str], state: TreeState, patch: str
) -> str:
    """Another where anything would be done otherwise."""
    parts = [
        *(workspace, str(root), recipe.digest(), steps.digest(), sorted(values.items())),
        *(state.commit, state.tree, state.digest, state.submodules),
        sha256(patch.encode("utf-8", "surrogatepass")).hexdigest(),
    ]
    return sha256(json.dumps(parts).encode()).hexdigest()


def told_of(
    principal: Principal,
    recipe: Recipe,
    limits: Limits,
    commands: tuple[tuple[str, ...], ...],
    state: TreeState,
    patch: Patch | None,
    branch: str,
    message: str,
) -> dict[str, object]:
    """What a person is shown: plain values, covert characters spelt out, lists and the patch cut short where they are
    long, which is said there.
    """
    told: dict[str, object] = {
        "recipe": recipe.name,
        "does": recipe.does.value,
        "asked by": one_line(principal.owner),
        "commit": state.commit,
    }
    if commands:
        told["commands"] = [one_line(shlex.join(command)) for command in commands]
        told["limits"] = (
            f"{limits.seconds:.0f} s, {limits.memory >> 20} MiB of memory, {limits.disk >> 20} MiB of disk, no network"
        )
    if recipe.does is Does.BRANCH:
        told |= {"branch": one_line(branch), "message": one_line(message)}
    for files, characters in _ROOMS:
        told |= _long_ones(recipe, state, patch, files, characters)
        if len(json.dumps(told)) <= MOST_TOLD_CHARS:
            break
    return told


def _long_ones(recipe: Recipe, state: TreeState, patch: Patch | None, files: int, characters: int) -> dict[str, object]:
    """What grows with the tree and the patch, in so many paths and characters of a text at most."""
    told: dict[str, object] = {"uncommitted changes": "none"}
    if state.digest and recipe.does is Does.BRANCH:
        told["uncommitted changes"] = "left out, although the patch was tried together with them"
    elif state.digest:
        told["uncommitted changes"] = _first(state.changed, files)
    if state.left_out:
        told["left out of the copy"] = _first([f"{path}: {why}" for path, why in state.left_out], files)
    if state.notes:
        told["notes"] = _first(state.notes, files)
    if patch is not None:
        told["files"] = _first([f"{file.path} +{file.added} -{file.removed}" for file in patch.files], files)
        if patch.notes:
            told["about the patch"] = _first(patch.notes, files)
        more = len(patch.text) - characters
        told["patch"] = visible(patch.text[:characters]) + (f"\n... {more} characters more" if more > 0 else "")
    return told


def _first(texts: Sequence[str], most: int) -> list[str]:
    shown = [
        one_line(text if len(text) <= _MOST_PATH_CHARS else f"...{text[-_MOST_PATH_CHARS:]}") for text in texts[:most]
    ]
    return [*shown, f"{len(texts) - most} more"] if len(texts) > most else shown
