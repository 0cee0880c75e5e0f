"""The queue of runs, and what each goes through: copy, steps in the sandbox, reading of the output, record.

A copy is made anew for each run and removed after it: nothing that a run leaves is met by another, but for what ccache
keeps of the workspace. Knows neither tools nor approvals: whoever starts a run has been let pass.
"""

import logging
import re
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import Any

from agents import patches, results, sandbox
from agents.errors import AgentError, PatchError, RecipeError, SandboxUnavailable, ToolRefused, UnknownRun
from agents.model import Finding, Limits, Run, RunState, Step, ignore_progress, never
from agents.recipes import APPLY_PATCH, Book, Does, Recipe, Shelf
from agents.runs.keeping import Applied, Records
from agents.runs.preparing import Prepared, digest_of, told_of
from agents.sandbox import Ended, Job
from agents.sandbox.watching import taken
from agents.worktrees import Checkout, Trees, TreeState
from agents.worktrees.removing import remove
from hub.auth.model import LOCAL, Principal, Scope
from hub.config import Settings
from hub.errors import HubError
from hub.knowledge import Sessions
from hub.prompting import visible
from hub.workspaces import Workspaces
from indexer.errors import IndexerError
from indexer.secrets import redact

FOLDER = "runs"  # below the data folder
MOST_QUEUED = 20
MOST_QUEUED_OF_ONE = 10  # of one key, so that others get in
MOST_FINDINGS = 200
TELL_S = 5.0  # between two words of progress at most. 1 to 10.
_GLANCE_S = 0.2  # between two looks at whether whoever waits has left
_CLOSE_S = 10.0
_CACHE_SHARE = 2  # a cache above the disk's bound by this factor begins anew
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,40}[A-Za-z]")
# How builds come to use it: compilers of the usual names that are ccache, or else by variables that CMake alone knows.
_WRAPPERS = next((path for path in ("/usr/lib/ccache", "/usr/lib64/ccache") if Path(path).is_dir()), "")
_LAUNCHING = (
    {"PATH": f"{_WRAPPERS}:/usr/local/bin:/usr/bin:/bin"}
    if _WRAPPERS
    else {"CMAKE_C_COMPILER_LAUNCHER": "ccache", "CMAKE_CXX_COMPILER_LAUNCHER": "ccache"}
)
_CCACHE = (Path("/usr/bin/ccache"), Path("/usr/local/bin/ccache"))  # where it is seen inside the sandbox, too
_REASONS = {
    "time": "It took longer than {0.seconds:.0f} s.",
    "memory": "It took more than {1} MiB of memory.",
    "processes": "It began more than {0.processes} processes.",
    "disk": "It wrote more than {2} MiB.",
}
_LOG = logging.getLogger("codehub.agents")


@dataclass(slots=True, eq=False)
class _Task:
    """A run of this process that has not ended."""

    run: Run
    principal: Principal
    prepared: Prepared
    session: str
    cancelled: threading.Event = field(default_factory=threading.Event)


class Runs:
    """All runs of a process over one data folder, ``agents_runs`` of them at once. Safe to use from several threads."""

    def __init__(
        self,
        settings: Settings,
        workspaces: Workspaces,
        sessions: Sessions,
        data: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._workspaces = workspaces
        self._sessions = sessions
        self._clock = clock
        self._folder = data / FOLDER
        self._shelf = Shelf(settings, lambda: [each.root for each in workspaces.visible(LOCAL)])
        self._trees = Trees(self._folder / "trees")
        self._records = Records(self._folder)
        self._changed = threading.Condition()
        self._runs: dict[str, Run] = {}  # those of this process, the ended ones too
        self._queue: list[_Task] = []
        self._under_way: dict[str, _Task] = {}
        self._threads: list[threading.Thread] = []
        self._closing = False

    def recipes(self, principal: Principal, workspace: str | None) -> tuple[Recipe, ...]:
        """Those that may be used in a workspace, by name. Raises RecipeError, and as Workspaces.chosen."""
        chosen = self._workspaces.chosen(principal, workspace or None, Scope.EXECUTE)
        return tuple(
            recipe
            for recipe in sorted(self._book(principal).recipes, key=lambda recipe: recipe.name)
            if recipe.serves(chosen.name)
            and (recipe.does is not Does.BRANCH or principal.may(Scope.WRITE, chosen.name))
        )

    def prepare(
        self,
        principal: Principal,
        workspace: str | None,
        recipe: str,
        arguments: Mapping[str, str],
        patch: str = "",
        changes: bool = True,
    ) -> Prepared:
        """What a run would do. With ``changes`` over the tree as it is now, else over its last commit.

        Raises RecipeError, PatchError, TreeStateError, SandboxUnavailable, Forbidden, WorkspaceError.
        """
        chosen = self._workspaces.chosen(principal, workspace or None, Scope.EXECUTE)
        book = self._book(principal)
        found = book.recipe(recipe)
        if found is None or not found.serves(chosen.name):
            names = ", ".join(each.name for each in self.recipes(principal, chosen.name))
            raise RecipeError(f"There is no recipe {recipe!r} here.", f"There are {names}.")
        if found.does is Does.BRANCH:
            self._workspaces.chosen(principal, chosen.name, Scope.WRITE)
            return self._prepared_branch(principal, chosen.name, chosen.root, found, found.filled(arguments), patch)
        if found.does is Does.PATCH and not patch:
            raise PatchError(f"{found.name} needs a patch.", "Give it as a unified diff with paths from the root.")
        steps = book.steps_of(found, chosen.name)
        values = found.filled(arguments)
        commands = steps.commands(values)
        if commands and not sandbox.look().available:
            raise SandboxUnavailable("Nothing can be run apart on this machine.", sandbox.look().hint)
        checked = patches.check(patch) if patch else None
        state = self._trees.state(chosen.root, changes)
        text = checked.text if checked else ""
        return Prepared(
            chosen.name,
            chosen.root,
            # What is run is the one recipe with the other's name: it is he that was asked for.
            replace(steps, name=found.name, does=found.does, workspaces=found.workspaces),
            commands,
            state,
            changes,
            text,
            told_of(principal, found, steps.limits, commands, state, checked, "", ""),
            digest_of(chosen.name, chosen.root, found, steps, values, state, text),
        )

    def start(self, principal: Principal, prepared: Prepared, session: str = "") -> Run:
        """Puts a run into the queue. Raises ToolRefused where that is full, UnknownSession, AgentError."""
        self.check_session(principal, prepared.workspace, session)
        self._refresh()
        with self._changed:
            if self._closing:
                raise ToolRefused("The hub is ending.", "Call again when it is back.")
            own = sum(task.principal.key_id == principal.key_id for task in self._queue)
            if len(self._queue) >= MOST_QUEUED or own >= MOST_QUEUED_OF_ONE:
                raise ToolRefused(
                    f"{len(self._queue)} runs wait already.", "Wait for one of them, or cancel one with job."
                )
            run = Run(
                id=token_hex(8),
                workspace=prepared.workspace,
                recipe=prepared.recipe.name,
                asked_by=principal.key_id,
                state=RunState.QUEUED,
                commit=prepared.commit,
                changes=prepared.state.digest if prepared.changes else "",
                stage="waiting",
                created_at=self._clock(),
            )
            self._records.keep(run)
            self._runs[run.id] = run
            self._queue.append(_Task(run, principal, prepared, session))
            self._begin_threads()
            self._changed.notify_all()
        return run

    def check_session(self, principal: Principal, workspace: str, session: str) -> None:
        """Raises UnknownSession for one that is not there, and ToolRefused for one of another workspace; "" is none."""
        if session and self._sessions.get(principal, session).workspace != workspace:
            raise ToolRefused("That session is of another workspace.", "Open one here with remember, or leave it out.")

    def run(self, run_id: str, principal: Principal) -> Run:
        """A run as it is now. Raises UnknownRun, with the same text for one of others."""
        found = self._runs.get(run_id) or self._records.run(run_id)
        if found is None or not _may_know(principal, found):
            raise UnknownRun("There is no such run.", "Call job without an id for the latest ones.")
        return found

    def runs(self, principal: Principal, workspace: str | None = None) -> tuple[Run, ...]:
        """Those that he may know of, the newest first."""
        self._refresh()
        with self._changed:
            every = tuple(self._runs.values())
        found = [run for run in every if _may_know(principal, run) and workspace in {None, "", run.workspace}]
        return tuple(sorted(found, key=lambda run: (-run.created_at, run.id)))

    def wait(
        self,
        run_id: str,
        principal: Principal,
        timeout_s: float,
        tell: Callable[[str, float, float | None], None] = ignore_progress,
        cancelled: Callable[[], bool] = never,
    ) -> Run:
        """The run once it has ended, or as it is when the time is over or whoever waits has left. Raises UnknownRun.

        ``tell`` gets a word at each change of stage, and every TELL_S seconds.
        """
        run = self.run(run_id, principal)
        end = time.monotonic() + timeout_s
        told, told_at = "", 0.0
        while not run.state.ended and not cancelled():
            now = time.monotonic()
            if run.stage != told or now - told_at >= TELL_S:
                told, told_at = run.stage, now
                tell(run.stage, *self._how_far(run))
            if now >= end:
                break
            with self._changed:
                stage = run.stage
                self._changed.wait_for(
                    lambda stage=stage: (  # type: ignore[misc] # mypy cannot infer the default
                        (known := self._runs.get(run_id)) is None or known.state.ended or known.stage != stage
                    ),
                    min(_GLANCE_S, end - now),
                )
            run = self.run(run_id, principal)
        return run

    def cancel(self, run_id: str, principal: Principal) -> Run:
        """Takes a run out of the queue, or ends it with all its processes; one that has ended stays as it is.

        Raises UnknownRun, and ToolRefused for one of another process.
        """
        run = self.run(run_id, principal)
        with self._changed:
            task = next((task for task in self._queue if task.run.id == run_id), None)
            if task is not None:
                self._queue.remove(task)
                return self._end(task, RunState.CANCELLED, "It was cancelled before it began.")
            if run_id in self._under_way:
                self._under_way[run_id].cancelled.set()
            elif not run.state.ended and run_id not in self._runs:
                raise ToolRefused("Another process runs it.", "Stop it where it was started.")
        return self.run(run_id, principal)

    def close(self) -> None:
        """Ends every run with all its processes, and takes no other."""
        with self._changed:
            self._closing = True
            for task in (*self._queue, *self._under_way.values()):
                task.cancelled.set()
            waiting, self._queue = self._queue, []
            for task in waiting:
                self._end(task, RunState.CANCELLED, "The hub ended before it began.")
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_CLOSE_S)
        self._records.close()

    def _prepared_branch(
        self, principal: Principal, workspace: str, root: Path, recipe: Recipe, values: Mapping[str, str], patch: str
    ) -> Prepared:
        if patch:
            raise RecipeError(
                f"{recipe.name} takes no patch.", f"Run {APPLY_PATCH} with it, and give that run's id when it passed."
            )
        tried = self.run(values["run"], principal)
        applied = self._records.patch(tried.id)
        if tried.workspace != workspace or tried.state is not RunState.PASSED or applied is None:
            raise RecipeError(
                f"The run {tried.id} is none that passed with a patch here.",
                f"Run {APPLY_PATCH} until it passes, then give that run's id.",
            )
        state = TreeState(applied.commit, applied.tree, applied.digest, versioned=applied.versioned)
        checked = patches.check(applied.patch)
        branch, message = values["branch"], values["message"]
        return Prepared(
            workspace,
            root,
            recipe,
            (),
            state,
            bool(tried.changes),
            applied.patch,
            told_of(principal, recipe, recipe.limits, (), state, checked, branch, message),
            digest_of(workspace, root, recipe, recipe, values, state, applied.patch),
            branch,
            message,
        )

    def _book(self, principal: Principal) -> Book:
        """Where it cannot be read, this machine's own user alone is told where it lies and what is wrong with it."""
        try:
            return self._shelf.book()
        except RecipeError:
            if principal.key_id == LOCAL.key_id:
                raise
            raise RecipeError(
                "The recipes of this hub cannot be read, so nothing is run.", "`codehub recipes` tells its owner why."
            ) from None

    def _refresh(self) -> None:
        """Learns of the runs of other processes, and forgets what is kept no longer."""
        with self._changed:
            known = {**self._runs}
        kept = self._records.runs(self._clock(), known)
        gone = known.keys() - {run.id for run in kept}
        with self._changed:
            self._runs |= {run.id: run for run in kept if run.id not in self._runs and run.state.ended}
            for run_id in gone:
                if self._runs[run_id].state.ended:
                    del self._runs[run_id]

    def _begin_threads(self) -> None:
        """One more, where there are not as many as may run at once. Holding the lock."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) < self._settings.agents_runs:
            thread = threading.Thread(target=self._work, name=f"run-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        try:
            self._trees.sweep()
        except (AgentError, OSError) as error:
            _LOG.warning("What earlier runs left cannot be removed: %s", error)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._queue)
                if not self._queue:
                    return
                task = self._queue.pop(0)
                self._under_way[task.run.id] = task
            try:
                self._one(task)
            finally:
                with self._changed:
                    self._under_way.pop(task.run.id, None)
                    if not self._runs[task.run.id].state.ended:  # a mistake of ours, which the thread's end tells
                        self._end(task, RunState.BROKEN, "The hub made a mistake.")

    def _one(self, task: _Task) -> None:
        """A run from its beginning to its end; what goes wrong on the way is how it ended."""
        try:
            self._change(task, state=RunState.RUNNING, started_at=self._clock(), stage="copying the tree")
            if task.prepared.recipe.does is Does.BRANCH:
                self._write_branch(task)
            else:
                self._in_a_copy(task)
        except (HubError, IndexerError) as error:
            self._end(task, RunState.BROKEN, f"{error.message} {error.hint}".strip())
        except OSError as error:
            self._end(task, RunState.BROKEN, f"{error.strerror or error}.")

    def _write_branch(self, task: _Task) -> None:
        prepared = task.prepared
        author = _author(task.principal)
        commit = self._trees.write_branch(
            prepared.root, prepared.state, prepared.patch, prepared.branch, prepared.message, author
        )
        output = f"The branch {prepared.branch} is now at {commit}."
        self._end(task, RunState.PASSED, "", output=output, patch="")

    def _in_a_copy(self, task: _Task) -> None:
        prepared = task.prepared
        with self._trees.checkout(prepared.root, prepared.state, prepared.patch) as checkout:
            diff = _told_output(self._trees.diff(checkout).encode("utf-8", "surrogatepass")) if prepared.patch else ""
            self._change(task, diff=diff)
            ended = self._steps(task, checkout)
        state, reason = _outcome(ended, prepared.recipe.limits)
        if state is RunState.FAILED:
            reason += _left_out(prepared.state)
        self._change(task, stage="reading the output")
        findings = self._findings(task, ended)
        if state is RunState.PASSED and prepared.patch:
            of = prepared.state
            applied = Applied(prepared.patch, of.commit, of.tree, of.digest, of.versioned)
            self._records.keep_patch(task.run.id, applied)
        last = ended[-1] if ended else None
        changes: dict[str, Any] = {
            "output": _told_output(last.output) if last else "",
            "output_bytes": sum(each.output_bytes for each in ended),
            "findings": findings,
            "patch": task.run.id if state is RunState.PASSED and prepared.patch else "",
            "layers": last.layers if last else (),
        }
        if task.session:
            # Before it is known to have ended, so that whoever waits for that finds the notes.
            run = replace(self._runs[task.run.id], state=state, reason=reason, stage="", **changes)
            with suppress(HubError):  # the session may have ended meanwhile; the run is kept all the same
                results.kept(self._sessions, task.principal, task.session, run)
        self._end(task, state, reason, **changes)

    def _steps(self, task: _Task, checkout: Checkout) -> list[Ended]:
        """Runs the commands one after another, until one does not end with 0. The time is that of all together."""
        recipe = task.prepared.recipe
        cache = self._cache(task.prepared)
        # What is compiled of a stranger's patch is kept nowhere, lest a later run takes it for its own.
        read_only = bool(task.prepared.patch)
        readable = (*checkout.readable, *recipe.readable, *((cache,) if cache is not None and read_only else ()))
        ended: list[Ended] = []
        left = recipe.limits.seconds
        for number, argv in enumerate(task.prepared.commands, 1):
            self._change(task, stage=f"step {number} of {len(task.prepared.commands)}: {_in_short(argv)}")
            one = sandbox.run(
                Job(
                    argv,
                    checkout.folder,
                    replace(recipe.limits, seconds=left),
                    readable=readable,
                    cache=None if read_only else cache,
                    environment=_environment(recipe, cache, read_only),
                    inside=recipe.folder,
                ),
                task.cancelled.is_set,
            )
            ended.append(one)
            left -= one.seconds
            steps = (*self._runs[task.run.id].steps, Step(argv, one.code, round(one.seconds, 3)))
            self._change(task, steps=steps)
            if one.code != 0 or one.reason:
                break
            if left <= 0:
                ended.append(replace(one, code=None, reason="time"))
                break
        if cache is not None and not read_only:
            _bound_cache(cache, recipe.limits)
        return ended

    def _cache(self, prepared: Prepared) -> Path | None:
        """The folder that builds of a workspace share, and no other's; None where there is no ccache to use it."""
        if not (prepared.recipe.cache and self._settings.agents_cache and any(path.exists() for path in _CCACHE)):
            return None
        folder = self._folder / "caches" / prepared.workspace
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def _findings(self, task: _Task, ended: Sequence[Ended]) -> tuple[Finding, ...]:
        found: dict[Finding, None] = {}
        for each in ended:
            text = redact(_text(each.output))[0]
            found.update(dict.fromkeys(results.read(text, sandbox.SOURCE)))
        findings = tuple(found)[:MOST_FINDINGS]
        try:
            with self._workspaces.opened(task.principal, task.prepared.workspace) as service:
                return results.linked(findings, service, task.prepared.patch)
        except (HubError, IndexerError):  # no grant to read, or no index: they are told without symbols
            return findings

    def _how_far(self, run: Run) -> tuple[float, float | None]:
        """Seconds that it runs, and that it may."""
        task = self._under_way.get(run.id)
        if task is None or run.started_at is None:
            return 0.0, None
        return round(self._clock() - run.started_at, 1), task.prepared.recipe.limits.seconds

    def _change(self, task: _Task, **changes: Any) -> Run:
        """Makes a change known, and records it where the state is in it. A full disk costs the record, not the run."""
        with self._changed:
            run = task.run = self._runs[task.run.id] = replace(self._runs[task.run.id], **changes)
            if "state" in changes:
                try:
                    self._records.keep(run)
                except AgentError as error:
                    _LOG.warning("%s", error.message)
            self._changed.notify_all()
        return run

    def _end(self, task: _Task, state: RunState, reason: str, **changes: Any) -> Run:
        return self._change(task, state=state, reason=reason, stage="", ended_at=self._clock(), **changes)


def _may_know(principal: Principal, run: Run) -> bool:
    """Whoever started it, where he may still run things there, and whoever decides about runs there."""
    own = principal.key_id == run.asked_by and principal.may(Scope.EXECUTE, run.workspace)
    return own or principal.may(Scope.APPROVE, run.workspace)


def _outcome(ended: Sequence[Ended], limits: Limits) -> tuple[RunState, str]:
    if not ended:
        return RunState.PASSED, ""
    last = ended[-1]
    if last.reason == "cancelled":
        return RunState.CANCELLED, "It was cancelled."
    if last.reason:
        told = _REASONS.get(last.reason, last.reason)
        return RunState.STOPPED, told.format(limits, limits.memory >> 20, limits.disk >> 20)
    if last.code != 0:
        return RunState.FAILED, f"Step {len(ended)} ended with code {last.code}."
    return RunState.PASSED, ""


def _left_out(state: TreeState) -> str:
    """What may be why a step failed, as a sentence; "" where the copy held everything."""
    if not state.left_out:
        return ""
    path, why = state.left_out[0]
    return f" The copy was without {len(state.left_out)} of the tree's files, such as {path} ({why})."


def _environment(recipe: Recipe, cache: Path | None, read_only: bool) -> dict[str, str]:
    """What the steps find set, the recipe's own words last. The names are those of ccache(1)."""
    if cache is None:
        return dict(recipe.environment)
    whose = {"CCACHE_DIR": str(cache), "CCACHE_READONLY": "1", "CCACHE_NOSTATS": "1", "CCACHE_TEMPDIR": "/tmp/ccache"}  # noqa: S108 - the sandbox's own
    return {
        **(whose if read_only else {"CCACHE_DIR": sandbox.CACHE}),
        "CCACHE_CONFIGPATH": "/dev/null",  # else what a build writes there would be obeyed by the next
        "CCACHE_MAXSIZE": f"{max(64, recipe.limits.disk >> 20)}M",
        # Every copy is new, so that its files are always younger than what is kept of them.
        "CCACHE_SLOPPINESS": "include_file_mtime,include_file_ctime",
        **_LAUNCHING,
        **dict(recipe.environment),
    }


def _bound_cache(cache: Path, limits: Limits) -> None:
    """A cache that is far too large was not filled by ccache, and goes."""
    if taken(cache).bytes > _CACHE_SHARE * limits.disk:
        with suppress(OSError):
            remove(cache)


def _text(output: bytes) -> str:
    return _COLOUR.sub("", output.decode("utf-8", "backslashreplace"))


def _told_output(output: bytes) -> str:
    """An output as it may be kept and shown: secrets taken out, whatever is no plain text made visible.

    At most about twice as long as it was, for what is made visible takes several characters.
    """
    text = visible(redact(_text(output))[0])
    most = len(output)
    return text if len(text) <= 2 * most else f"{text[:most]}\n... the middle is left out\n{text[-most:]}"


def _in_short(argv: Sequence[str]) -> str:
    text = visible(shlex.join(argv))
    return text if len(text) <= 80 else text[:77] + "..."


def _author(principal: Principal) -> str:
    """Who asked, in git's form."""
    name = re.sub(r"[^\w .@+-]", " ", principal.owner)[:80].strip() or "agent"
    return f"{name} <{principal.key_id}@codehub.invalid>"
