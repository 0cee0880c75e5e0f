"""Which workspace is meant, by its name or by the folder that somebody is in. Pure."""

from pathlib import Path

from hub.errors import WorkspaceError
from indexer.index import Workspace


def choose_workspace(workspaces: list[Workspace], name: str | None, folder: Path) -> Workspace:
    """The named one; else the one whose tree holds the folder, innermost first; else the one last indexed."""
    if not workspaces:
        raise WorkspaceError("Nothing is indexed yet.", "Run `codehub index PATH` first.")
    if name is not None:
        for workspace in workspaces:
            if workspace.name == name:
                return workspace
        raise WorkspaceError(f"There is no workspace {name!r}.", f"There are: {', '.join(w.name for w in workspaces)}.")
    here = folder.resolve()
    around = [workspace for workspace in workspaces if here.is_relative_to(workspace.root)]
    if around:
        return max(around, key=lambda workspace: (len(workspace.root.parts), workspace.name))
    return max(workspaces, key=lambda workspace: (workspace.used_ns, workspace.name))
