"""Looks the installation over, says what is wrong and how to mend it, and mends what can be mended without a risk.

``examine`` changes nothing. A check that asks something outside of this process has a bound, so that a server that
hangs costs its own line alone. Each part looks at one thing and knows nothing of the others.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from hub.config import Settings
from hub.errors import HubError
from hub.health import engines, folder, indexes, machine, serving
from hub.health.mending import fix, left_out, rebuild, repair
from hub.health.model import Checklist, Finding, Fixed, Grade, Group, LeftOut, Repair, Surroundings
from indexer.errors import IndexerError

__all__ = [
    "Check",
    "Checklist",
    "Finding",
    "Fixed",
    "Grade",
    "Group",
    "LeftOut",
    "Repair",
    "Surroundings",
    "examine",
    "fix",
    "left_out",
    "rebuild",
    "repair",
]

# Seconds that a check may take which asks something else: a driver, a server, a disk. 5 to 30.
LIMIT_S = 12.0

_PASSWORD = re.compile(r"(?<=://)[^/@\s]{0,1000}@")
_Found = Iterable[Finding] | Finding | None
_SINGLE, _TEAM = Checklist.SINGLE, Checklist.TEAM


@dataclass(frozen=True, slots=True)
class Check:
    """One look at one thing. ``outward`` ones ask something that may not answer.

    Those of the server count only where there is one.
    """

    subject: str
    group: Group
    look: Callable[[Surroundings], _Found]
    lists: frozenset[Checklist] = frozenset()
    outward: bool = False


def check(
    subject: str, group: Group, look: Callable[[Surroundings], _Found], *lists: Checklist, outward: bool = False
) -> Check:
    return Check(subject, group, look, frozenset(lists), outward)


_CHECKS = (
    check("system", Group.MACHINE, machine.system, _TEAM),
    check("python", Group.MACHINE, machine.python, _SINGLE, _TEAM),
    check("sqlite", Group.MACHINE, machine.sqlite, _SINGLE, _TEAM),
    check("git", Group.MACHINE, machine.git, _SINGLE, _TEAM),
    check("libclang", Group.MACHINE, machine.clang),
    check("graphics card", Group.MACHINE, machine.cards, _SINGLE, _TEAM, outward=True),
    check("driver", Group.MACHINE, machine.driver, _TEAM, outward=True),
    check("memory", Group.MACHINE, machine.memory, _SINGLE, _TEAM),
    check("inotify", Group.MACHINE, machine.watches),
    check("sandbox", Group.MACHINE, machine.sandbox),
    check("clock", Group.MACHINE, machine.clock, _TEAM),
    check("data folder", Group.FOLDER, folder.place, _SINGLE, _TEAM),
    check("file system", Group.FOLDER, folder.file_system, _TEAM),
    check("permissions", Group.FOLDER, folder.permissions, _TEAM),
    check("writer", Group.FOLDER, folder.holder),
    check("background", Group.FOLDER, folder.at_work),
    check("leftovers", Group.FOLDER, folder.leftovers),
    check("backup", Group.FOLDER, folder.backups, _TEAM),
    check("embeddings", Group.MODELS, engines.embeddings, outward=True),
    check("ollama", Group.MODELS, engines.ollama, _SINGLE, outward=True),
    check("ollama environment", Group.MODELS, engines.ollama_environment, _SINGLE, _TEAM),
    check("vllm service", Group.MODELS, engines.model_server, _TEAM, outward=True),
    check("language model", Group.MODELS, engines.language_model, _SINGLE, _TEAM, outward=True),
    check("connection", Group.MODELS, engines.connection, _SINGLE, _TEAM, outward=True),
    check("context", Group.MODELS, engines.as_asked, _SINGLE, _TEAM, outward=True),
    check("profile", Group.MODELS, engines.profile, outward=True),
    check("chroma server", Group.MODELS, engines.chroma_server, _TEAM, outward=True),
    check("workspaces", Group.INDEXES, indexes.workspaces, _SINGLE, _TEAM),
    check("following", Group.INDEXES, indexes.followed, _TEAM),
    check("git hooks", Group.INDEXES, indexes.hooks, _TEAM),
    check("server", Group.SERVER, serving.server, _TEAM),
    check("port", Group.SERVER, serving.port, _TEAM, outward=True),
    check("local socket", Group.SERVER, serving.local_socket),
    check("reach", Group.SERVER, serving.reach, _TEAM),
    check("proxy", Group.SERVER, serving.proxy, _TEAM),
    check("tls", Group.SERVER, serving.tls, _TEAM, outward=True),
    check("firewall", Group.SERVER, serving.exposure, _TEAM),
    check("keys", Group.SERVER, serving.keys, _TEAM),
    check("audit log", Group.SERVER, serving.audit, _TEAM),
    check("settings", Group.SERVER, serving.together, _TEAM),
)
# Of the server, what is looked at although none is set up.
_ALWAYS = {"server", "firewall", "settings"}


def examine(settings: Settings, around: Surroundings | None = None, added: Sequence[Check] = ()) -> Iterator[Finding]:
    """One finding after another, group by group. Changes nothing and never raises for what it finds.

    ``around`` names a checklist, and in tests another machine. Without a checklist the server's lines are left out
    while there is none; with one, all of its lines are there, and no others. An added check takes the place of the one
    of the same subject.
    """
    around = around or Surroundings(settings)
    instead = {one.subject: one for one in added}
    checks = [instead.pop(one.subject, one) for one in _CHECKS]
    order = tuple(Group)
    checks = sorted([*checks, *instead.values()], key=lambda one: order.index(one.group))
    wanted = [one for one in checks if _is_wanted(one, around)]
    begun = {check.subject: _begun(check, around) for check in wanted if check.outward}
    for check in wanted:
        answers = _looked(check, around) if not check.outward else _waited_for(check, begun[check.subject])
        yield from (_told(finding, check.group) for finding in answers)


def _told(finding: Finding, group: Group) -> Finding:
    """With its group, and without the passwords of addresses, whoever has put those into a sentence."""
    detail, hint = (_PASSWORD.sub("", text) for text in (finding.detail, finding.hint))
    return replace(finding, group=group, detail=detail, hint=hint)


def _is_wanted(check: Check, around: Surroundings) -> bool:
    if around.checklist is not None:
        return around.checklist in check.lists
    return check.group is not Group.SERVER or check.subject in _ALWAYS or serving.is_set_up(around.settings)


def _looked(check: Check, around: Surroundings) -> list[Finding]:
    try:
        found = check.look(around)
        if found is None:
            return []
        return [found] if isinstance(found, Finding) else list(found)
    except (IndexerError, HubError) as error:
        return [Finding(check.subject, Grade.FAILED, error.message, error.hint)]
    except (OSError, ValueError) as error:  # the latter of an address or a path that no system could have
        return [
            Finding(check.subject, Grade.FAILED, f"cannot be looked at: {error}", "See docs/doctor.md, and settings.")
        ]


def _begun(check: Check, around: Surroundings) -> SimpleQueue[list[Finding]]:
    """Asks in a thread, which is left behind where nothing answers it."""
    answers: SimpleQueue[list[Finding]] = SimpleQueue()
    threading.Thread(target=lambda: answers.put(_looked(check, around)), daemon=True, name=check.subject).start()
    return answers


def _waited_for(check: Check, answers: SimpleQueue[list[Finding]]) -> list[Finding]:
    try:
        return answers.get(timeout=LIMIT_S)
    except Empty:
        hint = "What it asks hangs; the other lines are good without it."
        return [Finding(check.subject, Grade.FAILED, f"no answer within {LIMIT_S:g} s", hint)]
