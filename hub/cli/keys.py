"""The commands about who may do what: keys, audit, approve.

They work on the data folder itself, with or without a server: whoever may write there needs no key. A server that runs
on the folder notices at its next request.
"""

import argparse
import os
import pwd
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hub.auth import approvals, store
from hub.auth import audit as log
from hub.auth.approvals import Approval, Approvals, approval_shape
from hub.auth.audit import AuditLog, entry_shape, verification_shape
from hub.auth.keys import KeyRecord, NewKey, grants_of, key_shape, written_time
from hub.auth.model import ALL_WORKSPACES, Grant, Principal, Scope
from hub.auth.store import KeyRing
from hub.cli import DONE, FAILED, NOTHING
from hub.cli.output import json_text, print_json, settings_of
from hub.errors import AccessError, UnknownAccess

_LENGTH = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


def keys(options: argparse.Namespace) -> int:
    if options.workspace is not None:
        raise AccessError(
            "What a key is for stands behind the action.", "Such as `codehub keys create --owner ci --workspace NAME`."
        )
    data = settings_of(options).data
    if options.action == "list":
        return _list(data, as_json=options.json)
    with closing(KeyRing(data / store.FILE)) as ring:
        if options.action == "create":
            scopes = options.scope or ([] if all(":" in name for name in options.grants or ("",)) else [Scope.READ])
            made = ring.create(options.owner, grants_of(scopes, options.grants or ()), moment(options.expires))
            _tell(data, "key.create", {"key_id": made.record.key_id, "owner": made.record.owner})
            _show(made, as_json=options.json)
        elif options.action == "rotate":
            made = ring.rotate(options.key, _seconds(options.grace))
            _tell(data, "key.rotate", {"key_id": options.key, "replaced_by": made.record.key_id})
            _show(made, as_json=options.json)
        else:
            if not ring.revoke(options.key):
                raise UnknownAccess(
                    "There is no such key, or it was revoked before.", "See `codehub keys list` for all of them."
                )
            _tell(data, "key.revoke", {"key_id": options.key})
            if options.json:
                print_json({"revoked": options.key})
            else:
                print(f"The key {options.key} is revoked, from now on and for good.")
    return DONE


def audit(options: argparse.Namespace) -> int:
    """Verifying ends with 2 where the log is not as it was written."""
    path = settings_of(options).data / log.FILE
    if not path.parent.exists() or not any(path.parent.glob(f"{path.stem}*")):
        if options.json:
            print_json({"entries": []} if options.action == "show" else {"entries": 0, "whole": True})
        else:
            print("Nothing has been recorded yet.")
        return NOTHING
    found = AuditLog(path)
    if options.action == "show":
        entries = found.entries(options.limit, options.before)
        if options.json:
            print_json({"entries": [entry_shape(entry) for entry in entries]})
        for entry in entries if not options.json else ():
            detail = json_text(dict(entry.detail)) if entry.detail else ""
            who = f"{entry.who} ({entry.owner})" if entry.owner else entry.who
            where = f" in {entry.workspace}" if entry.workspace else ""
            line = f"{written_time(entry.at)} {who}: {entry.action}{where} {entry.outcome} {detail}"
            print(f"{entry.number:>6} {_visible(line)}")
        return DONE if entries else NOTHING
    verified = found.verify()
    if options.json:
        print_json(verification_shape(verified))
    elif verified.broken_at is not None:
        print(
            f"broken at entry {verified.broken_at}: {verified.reason} ({verified.entries} entries before it are good)"
        )
    else:
        print(f"{verified.entries} entries, all as they were written; the last has the digest {verified.digest}.")
        for number in verified.mended:
            print(f"note: before entry {number} one was only half-written, as after a crash.")
    return DONE if verified.broken_at is None else FAILED


def approve(options: argparse.Namespace) -> int:
    data = settings_of(options).data
    with _waiting(data) as requests:
        if options.id is None:
            found = requests.pending(terminal()) if requests else ()
            if options.json:
                print_json({"approvals": [approval_shape(approval) for approval in found]})
            elif not found:
                print("Nothing waits for an approval.")
            for approval in found if not options.json else ():
                _print_request(approval)
            return DONE if found else NOTHING
        if requests is None:
            raise UnknownAccess("There is no such request.", "See `codehub approve` for those that wait.")
        decided = requests.decide(options.id, terminal(), not options.deny)
    _tell(
        data,
        "approval.deny" if options.deny else "approval.grant",
        {"approval": options.id, "tool": decided.tool, "digest": decided.digest, "asked_by": decided.asked_by},
        decided.workspace,
    )
    if options.json:
        print_json(approval_shape(decided))
    else:
        print("Denied." if options.deny else f"Granted, once, until {written_time(decided.until)}.")
    return DONE


def _list(data: Path, *, as_json: bool) -> int:
    records: tuple[KeyRecord, ...] = ()
    if (data / store.FILE).exists():
        with closing(KeyRing(data / store.FILE)) as ring:
            records = ring.records()
    now = time.time()
    if as_json:
        print_json({"keys": [key_shape(record, now) for record in records]})
    elif not records:
        print("There is no key yet. `codehub keys create` makes one, and so does the first `codehub serve`.")
    for record in records if not as_json else ():
        used = f"last used {written_time(record.last_used_at)}" if record.last_used_at else "never used"
        ends = f", expires {written_time(record.expires_at)}" if record.expires_at else ""
        print(f"{record.key_id}  {record.state(now):8} {record.owner}: {_granted(record.grants)}; {used}{ends}")
    return DONE if records else NOTHING


def _show(made: NewKey, *, as_json: bool) -> None:
    record = made.record
    if as_json:
        print_json({**key_shape(record, time.time()), "key": made.text})
        return
    ends = f" until {written_time(record.expires_at)}" if record.expires_at else ""
    print(f"Key {record.key_id} for {record.owner}: {_granted(record.grants)}{ends}")
    print(made.text)
    print("It is shown this once. Whoever has it may do all of that, so keep it where secrets are kept.")


def _granted(grants: Sequence[Grant]) -> str:
    parts = []
    for grant in grants:
        where = "all workspaces" if grant.workspace == ALL_WORKSPACES else grant.workspace
        parts.append(f"{', '.join(sorted(grant.scopes))} in {where}")
    return "; ".join(parts)


def _print_request(approval: Approval) -> None:
    who = f"{approval.asked_by} ({approval.owner})"
    what = f"{approval.tool} in {approval.workspace}, asked by {who}, until {written_time(approval.until)}"
    print(f"{approval.approval_id}  {_visible(what)}")
    for name, value in approval.told.items():
        if isinstance(value, str) and "\n" in value:  # a patch, which is decided by reading it
            print(f"  {_visible(name)}:")
            for line in value.split("\n"):
                print(f"  | {_visible(line)}")
        else:
            print(f"  {_visible(name)}: {_visible(json_text({'': value})[5:-1])}")


def _visible(text: str) -> str:
    """The text with what a terminal would obey, or not show, spelt out: somebody decides by what he sees."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


@contextmanager
def _waiting(data: Path) -> Iterator[Approvals | None]:
    if not (data / approvals.FILE).exists():
        yield None
        return
    with closing(Approvals(data / approvals.FILE)) as requests:
        yield requests


def terminal() -> Principal:
    """Whoever sits at the terminal: another than the local programs that ask over the socket without a key."""
    try:
        owner = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a user without a name
        owner = f"user {os.getuid()}"
    return Principal("terminal", owner, (Grant(ALL_WORKSPACES, frozenset(Scope)),))


def _tell(data: Path, action: str, detail: dict[str, str | int | float], workspace: str = "") -> None:
    AuditLog(data / log.FILE).append(terminal(), action, workspace, "done", detail)


def moment(text: str | None) -> float | None:
    """A length from now, or the beginning of a day, as a Unix time. Raises AccessError."""
    if text is None:
        return None
    if _LENGTH.fullmatch(text):
        return time.time() + _seconds(text)
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise AccessError(
            f"{text!r} is no time.", "Give a length such as 90d or 12h, or a day such as 2030-01-31."
        ) from None


def _seconds(text: str) -> float:
    """Seconds of a length such as 12h. Raises AccessError."""
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise AccessError(f"{text!r} is no length of time.", "Give one such as 30m, 12h or 7d.")
    return int(found[1]) * _UNITS[found[2]]
