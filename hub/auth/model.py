"""The values of permission: scopes, grants of them for workspaces, and whoever holds them. Pure."""

from dataclasses import dataclass
from enum import StrEnum

ALL_WORKSPACES = "*"


class Scope(StrEnum):
    """What a key may do. None implies another: a key that may execute need not be able to read."""

    READ = "read"  # search, ask, look symbols up
    INGEST = "ingest"  # index trees and refresh them
    KNOWLEDGE = "knowledge"  # write what is remembered beside the code
    EXECUTE = "execute"  # run builds and tests
    WRITE = "write"  # put a patch on a branch of the repository
    APPROVE = "approve"  # let others' requests to run pass
    ADMIN = "admin"  # keys, workspaces, backups, the audit log


@dataclass(frozen=True, slots=True)
class Grant:
    """Scopes in one workspace, or in all of them, those to come too."""

    workspace: str  # its name, or ALL_WORKSPACES
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever asks. ``key_id`` is "local" for the same user of this machine, who needs no key."""

    key_id: str
    owner: str  # a name for people
    grants: tuple[Grant, ...]

    def may(self, scope: Scope, workspace: str = ALL_WORKSPACES) -> bool:
        """Whether this is granted: in the workspace, or with ALL_WORKSPACES in every one."""
        return any(grant.workspace in (workspace, ALL_WORKSPACES) and scope in grant.scopes for grant in self.grants)

    def sees(self, workspace: str) -> bool:
        """Whether its existence may be told: anything at all is granted there."""
        return any(grant.workspace in (workspace, ALL_WORKSPACES) and grant.scopes for grant in self.grants)


LOCAL = Principal("local", "this machine's user", (Grant(ALL_WORKSPACES, frozenset(Scope)),))
