"""How the hooks of one tree stand to what a data folder wants of them, and bringing them there. Asks no git itself."""

from dataclasses import dataclass, replace
from pathlib import Path

from hub.errors import HookError
from hub.hooking import installing, spool
from hub.hooking.installing import Hook, HookState
from hub.hooking.placing import Place, Tree, place_of, tree_of


@dataclass(frozen=True, slots=True)
class Standing:
    """The hooks of a tree. ``snippet`` is what each of them has to hold."""

    tree: Tree
    place: Place
    hooks: tuple[Hook, ...]
    snippet: str

    @property
    def state(self) -> str:
        """``installed``, ``partly``, ``none``, or ``by hand`` where somebody else has to put the snippet in."""
        told = sum(hook.state is HookState.INSTALLED for hook in self.hooks)
        if told == len(self.hooks):
            return "installed"
        return "by hand" if self.place.reason else "partly" if told else "none"

    @property
    def missing(self) -> tuple[Hook, ...]:
        return tuple(hook for hook in self.hooks if hook.state is not HookState.INSTALLED)

    @property
    def holds_ours(self) -> bool:
        """Whether any of them has lines of ours, of whichever data folder."""
        return any(hook.state in {HookState.INSTALLED, HookState.OUTDATED} for hook in self.hooks)


def standing(path: Path, data: Path, hooks_path: str) -> Standing:
    """That of the tree which a folder lies in. ``hooks_path`` is what ``core.hooksPath`` holds there, or "".

    Raises HookError where there is no such tree.
    """
    tree = tree_of(path)
    place = place_of(tree, hooks_path)
    snippet = installing.block(spool.folder_in(data), tree.shared)
    return Standing(tree, place, installing.looked_at(place.folder, snippet), snippet)


def put_in(before: Standing, data: Path) -> Standing:
    """Puts the snippet into the hooks where that is ours to do. Raises HookError where files cannot be written."""
    try:
        spool.made(data)
    except OSError as error:
        raise HookError(f"{spool.folder_in(data)} cannot be made: {error.strerror}.", "See to its rights.") from None
    if before.place.reason:
        return before
    return replace(before, hooks=installing.install(before.place.folder, before.snippet))


def taken_out(before: Standing) -> Standing:
    """Takes our lines out of the hooks, also out of those that git no longer looks for. Raises HookError as above."""
    for folder in {place_of(before.tree, "").folder, before.place.folder}:
        if not place_of(before.tree, str(folder)).reason:
            installing.uninstall(folder)
    return replace(before, hooks=installing.looked_at(before.place.folder, before.snippet))
