"""The commands that the tables answer alone: symbol, references, callers, callees, hierarchy, overrides, includes,
included-by, history, impact.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hub import shapes
from hub.cli import DONE, NOTHING
from hub.cli.output import Json, kinds_of, opened_service, print_json, print_notes
from hub.errors import ChangeError
from hub.following import behind_words
from hub.impact import GROUPS, MOST_DIFF_CHARS, Impact, Reached
from hub.prompting import visible
from hub.service import Includes, Page, Relations, Service
from indexer import history as repository
from indexer.errors import QuestionError
from indexer.index import Match, Reach, Relative, Step
from indexer.model import Edge, Symbol

_DOC_LINES = 12
_LIKE = {
    Match.FOLDED: "in another letter case",
    Match.PREFIX: "names that begin so",
    Match.FUZZY: "did you mean one of these?",
}


@contextmanager
def _looked_up(options: argparse.Namespace) -> Iterator[Service]:
    """The service, with its stamp in ``options.stamp``; how far behind the tree it is goes to people's other stream."""
    with opened_service(options) as service, service.moment():
        options.stamp = service.stamp()
        yield service
    behind = behind_words(options.stamp)
    if behind.endswith("behind") and not options.json:
        print(f"note: {service.workspace} is {behind}", file=sys.stderr)


def _print_json(options: argparse.Namespace, shape: Json) -> None:
    print_json({**shape, "stamp": shapes.stamp_shape(options.stamp)})


def symbol(options: argparse.Namespace) -> int:
    how = Match(options.match) if options.match else None
    with _looked_up(options) as service:
        found = service.find(options.name, _page(options), how, kinds_of(options.kind or ()))
    if options.json:
        _print_json(options, shapes.found_shape(found, options.offset))
    elif found.match is None:
        print(f"No symbol is named {options.name}.")
    else:
        if how is None and found.match is not Match.EXACT:
            print(f"No symbol is named {options.name}; {_LIKE[found.match]}")
        for entry in found.symbols:
            _print_symbol(entry)
        _print_rest(options, len(found.symbols), found.total)
    return DONE if found.symbols else NOTHING


def references(options: argparse.Namespace) -> int:
    with _looked_up(options) as service:
        found = service.references(options.name, _page(options))
    return _show_relations(options, found, "references", "used")


def callers(options: argparse.Namespace) -> int:
    with _looked_up(options) as service:
        found = service.callers(options.name, Reach(options.depth, options.by_name), _page(options))
    return _show_relations(options, found, "callers", "called")


def callees(options: argparse.Namespace) -> int:
    reach = Reach(options.depth, options.by_name, options.overrides)
    with _looked_up(options) as service:
        found = service.callees(options.name, reach, _page(options))
    return _show_relations(options, found, "callees", "calling")


def hierarchy(options: argparse.Namespace) -> int:
    with _looked_up(options) as service:
        trees = service.hierarchy(options.name)
    if options.json:
        _print_json(options, shapes.hierarchy_shape(trees))
        return DONE if trees else NOTHING
    if not trees:
        print(f"No class is named {options.name}.")
    for tree in trees:
        where = tree.symbol
        print(f"{where.qualified_name}  {where.span.path}:{where.line}")
        if not options.down:
            _print_relatives("derives from", tree.bases)
        if not options.up:
            _print_relatives("derived by", tree.derived)
    return DONE if trees else NOTHING


def overrides(options: argparse.Namespace) -> int:
    with _looked_up(options) as service:
        found = service.overrides(options.name, _page(options))
    if options.json:
        _print_json(options, shapes.overrides_shape(found))
    elif not found.symbols:
        print(f"No method is named {options.name}.")
    elif not found.total:
        print(f"{options.name} is known, but overrides nothing, and nothing overrides it.")
    else:
        for edge in (*found.overridden, *found.overriding):
            print(f"{edge.path}:{edge.line}  {edge.inside} overrides {edge.target}  ({edge.how.value})")
        _print_rest(options, len(found.overridden) + len(found.overriding), found.total)
    return DONE if found.overridden or found.overriding else NOTHING


def includes(options: argparse.Namespace) -> int:
    with _looked_up(options) as service:
        found = service.includes(options.file, options.depth, _page(options))
    return _show_includes(options, found, "includes nothing")


def included_by(options: argparse.Namespace) -> int:
    with _looked_up(options) as service:
        found = service.included_by(options.file, options.depth, _page(options))
    return _show_includes(options, found, "is included by nothing")


def history(options: argparse.Namespace) -> int:
    with _looked_up(options) as service:
        told, total = service.history(options.name, _page(options))
    if options.json:
        _print_json(options, shapes.history_shape(told, total, options.offset))
        return DONE if told else NOTHING
    if not total:
        print(f"No commit that is kept changed {options.name}, as far as names tell.")
    for entry in told:
        day = datetime.fromtimestamp(entry.commit.time_s, UTC).date().isoformat()
        print(f"{entry.commit.id[:12]}  {day}  {visible(entry.commit.subject)}  ({visible(entry.commit.author)})")
        print(f"    {', '.join(visible(path) for path in entry.paths)}  ({entry.files} files in all)")
    _print_rest(options, len(told), total)
    return DONE if told else NOTHING


def impact(options: argparse.Namespace) -> int:
    if options.names and (options.diff is not None or options.since is not None):
        raise QuestionError("Symbols and a diff are given.", "Give one of them.")
    with _looked_up(options) as service:
        if options.names:
            found = service.impact_of(options.names, options.depth)
        else:
            found = service.impact_of_diff(_diff_asked(options, service), options.depth)
    if options.json:
        _print_json(options, shapes.impact_shape(found, options.limit))
    else:
        _print_impact(found, options.limit)
    return DONE if found.reached or found.changed else NOTHING


def _diff_asked(options: argparse.Namespace, service: Service) -> str:
    """The text of the diff. Raises ChangeError where there is none to read."""
    if options.diff is not None:
        try:
            if options.diff == "-":
                return sys.stdin.buffer.read(4 * MOST_DIFF_CHARS).decode("utf-8", "replace")
            with Path(options.diff).open(encoding="utf-8", errors="replace", newline="") as file:
                return file.read(MOST_DIFF_CHARS + 1)
        except OSError as error:
            raise ChangeError(
                f"The diff {options.diff} cannot be read: {error.strerror}.", "Give a file, or - for standard input."
            ) from None
    revision = options.since if options.since is not None else "HEAD"
    diff = repository.diff(service.root, revision)
    if diff is None:
        raise ChangeError(
            f"git tells no difference of {service.root} to {revision!r}.",
            "Give a revision that `git log` shows, or pipe a diff into `codehub impact --diff`.",
        )
    return diff


def _page(options: argparse.Namespace) -> Page:
    return Page(options.limit, options.offset)


def _show_relations(options: argparse.Namespace, found: Relations, kind: str, verb: str) -> int:
    if options.json:
        _print_json(options, shapes.relations_shape(found))
        return DONE if found.steps else NOTHING
    if not found.total:
        known = (
            f"{options.name} is known, but no {kind} of it." if found.symbols else f"Nothing is named {options.name}."
        )
        print(known)
        return NOTHING
    for step in found.steps:
        edge = step.edge
        other = edge.target if kind == "callees" else edge.inside or "file scope"
        print(f"{edge.path}:{edge.line}  {other}  ({edge.kind.value}, {_surety(edge)}){_way(step)}")
    _print_rest(options, len(found.steps), found.total)
    print(f"{found.total} places {verb}")
    return DONE if found.steps else NOTHING


def _surety(edge: Edge) -> str:
    return edge.how.value + (f", one of {edge.candidate_count}" if edge.candidate_count > 1 else "")


def _way(step: Step) -> str:
    depth = f"  depth {step.depth}" if step.depth > 1 else ""
    return depth + (f"  via {', '.join(step.via)}" if step.via else "")


def _print_rest(options: argparse.Namespace, shown: int, total: int) -> None:
    """What is beyond the page, and how to see it."""
    after = options.offset + shown
    if after < total:
        print(f"... and {total - after} more: --offset {after}, or a larger --limit")


def _print_relatives(verb: str, relatives: Sequence[Relative], indent: int = 1) -> None:
    for relative in relatives:
        again = "  (shown above)" if relative.repeated and relative.relatives == () else ""
        print(f"{'  ' * indent}{verb} {relative.name}  {relative.path}:{relative.line}  ({relative.how.value}){again}")
        _print_relatives(verb, relative.relatives, indent + 1)


def _show_includes(options: argparse.Namespace, found: Includes, nothing: str) -> int:
    if options.json:
        _print_json(options, shapes.includes_shape(found))
    elif found.path is None:
        print(f"No file of the index is named {options.file}.")
    elif not found.total:
        print(f"{found.path} {nothing}.")
    else:
        for step in found.steps:
            edge = step.edge
            circle = "  in a circle" if step.cycle else ""
            print(f"{edge.path}:{edge.line}  {edge.target}  ({_surety(edge)}){_way(step)}{circle}")
        _print_rest(options, len(found.steps), found.total)
    return DONE if found.steps else NOTHING


def _print_impact(found: Impact, limit: int) -> None:
    for entry in found.changed[:limit]:
        print(f"changed {entry.span}  {entry.kind.value} {entry.qualified_name}")
    if len(found.changed) > limit:
        print(f"  ... and {len(found.changed) - limit} more")
    if not found.changed:
        print("No symbol of the index is changed.")
    for group in GROUPS:
        _print_group(group, [reached for reached in found.reached if reached.group == group], limit)
    _print_group("tests", [reached for reached in found.reached if reached.is_test], limit)
    print_notes(found.notes)


def _print_group(group: str, reached: Sequence[Reached], limit: int) -> None:
    if not reached:
        return
    print(f"{group} ({len(reached)}):")
    for one in reached[:limit]:
        depth = f", depth {one.depth}" if one.depth > 1 else ""
        name = f"  {one.name}" if one.name != one.path else ""
        print(f"  {one.path}:{one.line}{name}  {one.reason} ({one.how.value}{depth})")
    if len(reached) > limit:
        print(f"  ... and {len(reached) - limit} more; --limit shows them")


def _print_symbol(entry: Symbol) -> None:
    form = "defined" if entry.is_definition else "declared"
    print(f"{entry.span}  {entry.kind.value} {entry.qualified_name}  ({form})")
    print(f"    {visible(entry.signature)}")
    lines = visible(entry.doc).split("\n") if entry.doc else []
    for line in lines[:_DOC_LINES]:
        print(f"    {line}".rstrip())
    if len(lines) > _DOC_LINES:
        print(f"    ... and {len(lines) - _DOC_LINES} more lines; --json has them all")
