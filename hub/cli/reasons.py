"""The command that says why code is what it is: why."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from hub import remembering, shapes
from hub.auth import audit
from hub.auth.audit import AuditLog
from hub.auth.model import LOCAL
from hub.cli import DONE, NOTHING
from hub.cli.output import opened_service, print_json, print_notes, settings_of
from hub.knowledge import Lasting, lasting
from hub.prompting import visible
from hub.remembering import Standing
from hub.service import Service, Story

_COMMENT_LINES = 6


def why(options: argparse.Namespace) -> int:
    with opened_service(options) as service:
        story = service.why(" ".join(options.asked), options.limit)
        stamp = shapes.stamp_shape(service.stamp())
        kept = _kept(settings_of(options).data, service, story, options.limit)
    if options.json:
        told = [remembering.entry_shape(each) for each in kept]
        print_json({**shapes.story_shape(story), "kept": told, "stamp": stamp})
    else:
        _print_story(story, kept)
    return DONE if story.reasons or story.commits or kept else NOTHING


def _kept(data: Path, service: Service, story: Story, limit: int) -> tuple[Standing, ...]:
    """What people keep about it; nothing where nobody ever kept anything."""
    if not (data / lasting.FILE).exists():
        return ()
    with closing(Lasting(data / lasting.FILE, AuditLog(data / audit.FILE))) as store:
        return remembering.beside(store, LOCAL, service, story, limit)


def _print_story(story: Story, kept: Sequence[Standing]) -> None:
    if story.symbols:
        symbol = story.symbols[0]
        print(f"{symbol.span}  {symbol.kind.value} {symbol.qualified_name}")
    elif story.span:
        print(story.span)
    for line in [line for line in visible(story.comment).split("\n") if line.strip()][:_COMMENT_LINES]:
        print(f"    {line.strip()}")
    _print_kept(kept)
    if story.reasons:
        print("why, the best reason first:")
    else:
        print(f"Nothing that is indexed or committed says why: {visible(story.asked)}")
    for rank, reason in enumerate(story.reasons, 1):
        where = reason.commit[:12] if reason.commit else str(reason.span)
        title = f"  {visible(reason.title)}" if reason.title else ""
        print(f"{rank:2}. {where}{title}{f', {reason.date}' if reason.date else ''}  ({reason.how})")
        if reason.outdated:
            print(f"    NO LONGER SO: {reason.outdated}")
        for said in reason.says:
            if said != reason.title:
                print(f"    | {said}")
    if story.span is not None:
        _print_commits(story)
    print_notes(story.notes)


def _print_kept(kept: Sequence[Standing]) -> None:
    if kept:
        print("what people keep of it:")
    for each in kept:
        entry = each.entry
        print(f"  {entry.kind.value} {entry.id} by {visible(entry.author)}: {visible(entry.title)}")
        said = [line for line in entry.text.split("\n")[:_COMMENT_LINES] if line != entry.title]
        for line in [*remembering.warnings(each), *said]:
            print(f"    | {visible(line)}")


def _print_commits(story: Story) -> None:
    if story.commits:
        print(f"commits, newest first ({story.total} in all):")
    for made in story.commits:
        day = datetime.fromtimestamp(min(max(made.commit.time_s, 0), 253_402_300_000), UTC).date().isoformat()
        marks = [*(["the first one"] if made.first else []), *([made.outdated] if made.outdated else [])]
        marks += [", ".join(map(visible, made.issues))] if made.issues else []
        print(
            f"  {made.commit.id[:12]}  {day}  {visible(made.commit.author)}  {visible(made.commit.subject)}"
            f"  ({'; '.join([made.how, *marks])})"
        )
