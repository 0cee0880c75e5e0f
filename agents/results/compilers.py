"""What compilers, linkers and build tools print: g++, clang, GNU ld, gold, lld, mold, make, ninja, CMake.

A diagnostic that stands in a header of the system is told at the place of the tree that led there.
"""

import json
import re
from enum import IntEnum
from typing import NamedTuple

from agents.model import FindingKind
from agents.results.output import MOST_PLACES, Draft, Output

_LOCATED = re.compile(
    r"(?P<path>(?:[A-Za-z]:)?[^\s:()|][^:()|\n]{0,400}):(?P<line>\d{1,7})(?::(?P<column>\d{1,6}))?: (?P<rest>.*)"
)
_LEVEL = re.compile(
    r"(?P<level>fatal error|internal compiler error|error|warning|sorry, unimplemented|note|remark): (?P<text>.*)"
)
_INCLUDED = re.compile(
    r"(?:In file included from|\s{5,40}from|In module imported at) (?P<path>[^:\n]{1,400}):(?P<line>\d{1,7})[:,\d]*"
)
_CONTEXT = re.compile(
    r"[^\s:][^:\n]{0,400}:(?:\d{1,7}:(?:\d{1,6}:)?)?"
    r" (?:\s{0,3}(?:recursively )?(?:required (?:from|by|for)|in .constexpr. expansion)"
    r"|In (?:.{0,60}function|.{0,40}constructor|destructor|instantiation|substitution|member|lambda|static)|At"
    r" (?:global|top))"
)
_ECHO = re.compile(r"\s{0,12}\d{0,7} \|")
_CARET = re.compile(r"[\s~|-]{0,1990}\^[\s~^|-]*$")
_DRIVER = re.compile(
    r"(?P<tool>(?:[\w.+/-]{0,200}/)?"
    r"(?:cc1(?:plus)?|(?:[\w.-]{0,60}-)?g(?:cc|\+\+)(?:-\d+)?|clang(?:\+\+)?(?:-\d+)?|c\+\+|nvcc|lto1|as)):"
    r" (?P<level>fatal error|error|internal compiler error): (?P<text>.*)"
)
_MADE = re.compile(r"required (?:from|by|for)|requested here|expanded from|expansion of|satisfaction of")
_MOST_QUOTED = 4  # names of a message
_NO_NEWS = re.compile(
    r"(?:all warnings being treated|some warnings being treated|linker command failed|ld returned|too many errors"
    r"|unrecognized command-line option .-W)"
)
_QUOTED = re.compile(r"[\u2018'`]([^\u2018\u2019'`\n]{1,600})[\u2019']")
_WITH = re.compile(r" \[with [^\n]*")
_FUNCTION = re.compile(
    r"[Ii]n (?:[a-z ]{0,60}(?:function|constructor|destructor)) [\u2018'`](?P<name>[^\u2019\n]{1,600}?)[\u2019']"
)

_LINKER = re.compile(
    r"(?:\S{0,300}/)?(?:[\w.-]{0,60}-)?(?P<tool>ld(?:\.\w{2,8})?(?:-\d{1,3})?|mold|gold|collect2): (?P<rest>.*)"
)
_GOLD = re.compile(
    r"(?P<object>[^\s:]{1,400}):(?P<path>[^\s:]{1,400}):function (?P<name>.{1,1500}?): error: (?P<rest>undefined .*)"
)
_OBJECT_PLACE = re.compile(
    r"(?P<path>[^\s:(][^:(\n]{0,400}):(?:\("
    r"(?P<section>\.[\w.$*]{1,200}(?:\[[^\]]{0,300}\])?\+?[0-9a-fx]{0,20})\)|(?P<line>\d{1,7})): (?P<rest>.*)"
)
_UNDEFINED = re.compile(
    r"(?:undefined (?:reference to|(?:hidden |protected |internal )?symbol:?)|multiple definition of|duplicate"
    r" symbol:?)\s*"
    r"(?P<quoted>[`'\u2018\"])?(?P<name>.{1,1900})"
)
_IN_OBJECT = re.compile(
    r"(?P<object>[^\s:][^:\n]{0,400}): in function [`'\u2018](?P<name>.{1,1500}?)[\u2019']:(?P<rest>.*)"
)
_REFERENCE = re.compile(r">>> (?:referenced by|defined (?:at|in)) (?P<text>.*)")
_REFERENCE_PLACE = re.compile(r"\((?P<path>[^()\s:]{1,400}):(?P<line>\d{1,7})\)")
_AGAINST = re.compile(r" against (?:undefined )?(?:symbol )?[`'](?P<name>[^'\n]{1,600})'")
_REFERENCE_FILE = re.compile(r">>> (?:referenced by|defined (?:at|in)) (?P<path>[^\s:()]{1,400}\.(?!o\b)\w{1,5})$")
_REFERENCE_NAME = re.compile(r":\((?P<name>[^.].{0,1500}?)\)(?: in archive \S+)?$")
_MOLD_REFERENCE = re.compile(r">>> |    >>> ")
_SOURCE_PLACE = re.compile(r"(?P<path>[^\s:()]{1,400}):(?P<line>\d{1,7})")
_OTHER_LINK = re.compile(
    r"(?P<text>cannot find (?:-l)?\S.*|unable to find library .*|relocation .{1,200} against .*|cannot open .*"
    r"|library not found.*|undefined version.*|hidden symbol .{1,600} isn't defined.*|file not recognized.*"
    r"|final link failed.*)"
)
_OBJECT_FOLDER = re.compile(r"(?:^|.*/)CMakeFiles/[^/]{1,200}\.dir/(?P<path>.*)\.o(?:bj)?$")

_MAKE = re.compile(r"(?:[\w./-]{0,200}/)?g?make(?:\[\d{1,4}\])?: \*\*\* (?P<text>.*)")
_MAKE_MISSES = re.compile(
    r"(?:[\w./-]{0,200}/)?g?make(?:\[\d{1,4}\])?:"
    r" (?P<text>[^\s:*]{1,300}: (?:No such file or directory|Permission denied))"
)
_FILE_AND_LINE = re.compile(r"(?:loading )?['\"]?(?P<path>[^\s:'\"]{1,300}):(?P<line>\d{1,7}): ")
_MAKE_AT = re.compile(r"(?P<path>[^\s:\[][^:\n]{0,300}):(?P<line>\d{1,7}): \*\*\* (?P<text>.*)")
_MAKE_RULE = re.compile(r"\[(?P<path>[^:\]\n]{1,300}):(?P<line>\d{1,7}): (?P<target>[^\]\n]{1,300})\] (?P<rest>.*)")
_NINJA = re.compile(r"ninja: (?P<level>error|fatal): (?P<text>.*)")
_CMAKE = re.compile(
    r"CMake (?P<level>Error|Warning|Deprecation Warning)(?: \(dev\))?"
    r"(?: (?:at|in) (?P<path>[^\s:][^:\n]{0,300}?)(?::(?P<line>\d{1,7}))?"
    r"(?: \((?P<command>\w{1,80})\))?)?:(?P<rest>.*)"
)
_BAZEL = re.compile(r"ERROR: (?P<path>/[^:\n]{1,400}):(?P<line>\d{1,7}):\d{1,6}: (?P<text>.*)")
_SHELL = re.compile(
    r"(?:/bin/)?(?:ba|da)?sh: (?:line )?(?:\d{1,6}: )?(?P<text>[^:\n]{1,300}: (?:command )?not found"
    r"|[^:\n]{1,300}: Permission denied)"
)


class _Rank(IntEnum):
    """How well a place that a message names beside its own tells where the fault is."""

    MADE = 0  # a template was made there, or a macro used
    NOTED = 1
    INCLUDED = 2


class _Place(NamedTuple):
    path: str  # in the tree, or ""
    line: int
    rank: _Rank


def diagnostic(output: Output, at: int) -> int:
    """One message of a compiler with what led to it and the notes that follow it. The line after it, or 0."""
    start = at
    at = _after_context(output, at)
    found = _located(output.line(at))
    if found is None or found[1]["level"] in ("note", "remark"):
        return at + (found is not None) if at > start else 0
    place, level = found
    if _UNDEFINED.match(level["text"]):
        return linker(output, at) or at + 1
    kind = FindingKind.WARNING if level["level"] == "warning" else FindingKind.ERROR
    draft = Draft(kind, "clang" if output.clang else "gcc", level["text"])
    draft.place(output.path(place["path"]), int(place["line"]))
    for line in output.lines[start : at + 1]:
        draft.tell(line)
    for quoted in list(_QUOTED.finditer(_WITH.sub("", level["text"])))[:_MOST_QUOTED]:
        draft.name(quoted[1])
    places = [_place_of(output, line) for line in output.lines[start:at]]
    end = _following(output, at + 1, draft, places)
    for function in filter(None, map(_FUNCTION.search, output.lines[start:at])):
        draft.name(function["name"])
    _told(output, draft, places, at, end)
    return end


def _told(output: Output, draft: Draft, places: list[_Place], at: int, end: int) -> None:
    """Keeps a message at its place in the tree. One that has none goes on about the error before it."""
    before, last = output.compiled
    if not draft.path:
        ranked = sorted((each for each in places if each.path), key=lambda each: each.rank)
        if ranked and (ranked[0].rank < _Rank.INCLUDED or last < at - len(places) or before is None):
            best = [each for each in ranked if each.rank == ranked[0].rank][-1]
            draft.place(best.path, best.line)
        elif before is not None and last >= at - len(places):
            before.tell(draft.message)
            output.compiled = before, end
            return
    output.add(draft, at)
    if draft.kind is FindingKind.ERROR:
        output.compiled = draft, end


def _after_context(output: Output, at: int) -> int:
    """The line after those that say what led to a message."""
    last = min(at + MOST_PLACES, len(output.lines))
    while at < last and _is_context(output.lines[at]):
        at += 1
    return at


def _following(output: Output, at: int, draft: Draft, places: list[_Place]) -> int:
    """Takes up the source that is shown, fix-its, and the notes; where the next message begins."""
    last = min(len(output.lines), at + 200)
    while at < last:
        line = output.lines[at]
        if _ECHO.match(line) or _CARET.fullmatch(line):
            draft.tell(line)
            at += 1
        elif _CARET.fullmatch(output.line(at + 1)) and not _LOCATED.match(line):  # without a margin, as old clang
            draft.tell(line)
            draft.tell(output.lines[at + 1])
            at += 2
            if (
                output.line(at)[:1].isspace()
                and not _CARET.fullmatch(output.line(at + 1))
                and "|" not in output.line(at)
            ):
                draft.tell(output.lines[at])
                at += 1
        else:
            after = _after_context(output, at)
            found = _located(output.line(after))
            if found is None or found[1]["level"] not in ("note", "remark"):
                return at
            places += [_place_of(output, each) for each in output.lines[at : after + 1]]
            for each in output.lines[at : after + 1]:
                draft.tell(each)
            at = after + 1
    return at


def _located(line: str) -> tuple[re.Match[str], re.Match[str]] | None:
    if ": " not in line:
        return None
    place = _LOCATED.match(line)
    level = _LEVEL.match(place["rest"]) if place else None
    return (place, level) if place and level else None


def _is_context(line: str) -> bool:
    if (
        "rom " not in line
        and ": In " not in line
        and ": At " not in line
        and "require" not in line
        and "expansion" not in line
    ):
        return False
    return bool(_INCLUDED.match(line) or _CONTEXT.match(line))


def _place_of(output: Output, line: str) -> _Place:
    if found := _INCLUDED.match(line):
        return _Place(output.path(found["path"]), int(found["line"]), _Rank.INCLUDED)
    if found := _LOCATED.match(line):
        rank = _Rank.MADE if _MADE.search(line) else _Rank.NOTED
        return _Place(output.path(found["path"]), int(found["line"]), rank)
    return _Place("", 0, _Rank.INCLUDED)


def driver(output: Output, at: int) -> int:
    """A message of a compiler about no place: a missing file, an option that it does not know."""
    line = output.lines[at]
    found = _DRIVER.match(line) if "error: " in line else None
    if not found:
        return 0
    draft = Draft(FindingKind.ERROR, "clang" if "clang" in found["tool"] else "gcc", found["text"])
    draft.consequence = bool(_NO_NEWS.match(found["text"]))
    draft.tell(line)
    output.add(draft, at)
    return at + 1


def as_json(output: Output, at: int) -> int:
    """The diagnostics of ``-fdiagnostics-format=json``, all of which stand on one line."""
    line = output.lines[at]
    if not line.startswith("[{") or '"kind"' not in line:
        return 0
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        return 0
    for each in read[:MOST_PLACES]:
        if not isinstance(each, dict) or each.get("kind") not in ("error", "fatal error", "warning"):
            continue
        kind = FindingKind.WARNING if each["kind"] == "warning" else FindingKind.ERROR
        draft = Draft(kind, "gcc", str(each.get("message", "")))
        children = each.get("children")
        for part in [each, *(children if isinstance(children, list) else [])][:MOST_PLACES]:
            path, number = _json_place(part)
            draft.place(output.path(path), number)
            if path:
                draft.tell(f"{path}:{number}: {part.get('kind', '')}: {part.get('message', '')}")
        for quoted in list(_QUOTED.finditer(draft.message))[:4]:
            draft.name(quoted[1])
        output.add(draft, at)
    return at + 1


def _json_place(part: object) -> tuple[str, int]:
    if isinstance(part, dict) and isinstance(locations := part.get("locations"), list) and locations:
        first = locations[0]
        caret = first.get("caret") if isinstance(first, dict) else None
        if isinstance(caret, dict) and isinstance(caret.get("file"), str) and isinstance(caret.get("line"), int):
            return caret["file"], caret["line"]
    return "", 0


def linker(output: Output, at: int) -> int:
    """What a linker misses or has twice, one finding for each symbol and place."""
    line = output.lines[at]
    named = _LINKER.match(line)
    if named is None and "undefined" not in line and "multiple definition" not in line and "in function" not in line:
        return 0
    tool, rest = (named["tool"], named["rest"]) if named else ("", line)
    if tool == "collect2" or rest.startswith(("warning: ", "error: ld returned")):
        return at + 1
    if inside := _IN_OBJECT.match(rest):
        output.linking = (inside["object"], inside["name"])
        rest = inside["rest"].strip()
        if not rest:
            return at + 1
    draft = _linked(output, line, tool, rest)
    if draft is None:
        return 0
    end = _references(output, at + 1, draft)
    output.add(draft, at)
    return end


def _linked(output: Output, line: str, tool: str, rest: str) -> Draft | None:
    """What a linker says after its name and that of the function; None where it is nothing of a linker."""
    place = _OBJECT_PLACE.match(rest)
    if gold := _GOLD.match(rest):
        output.linking = (gold["object"], gold["name"])
        place = _OBJECT_PLACE.match(f"{gold['path']}:(.text): {gold['rest']}")
    said = (place["rest"] if place else rest).removeprefix("error: ")
    after = said.partition(": ")[2]  # of "main.o: undefined reference to"
    if found := _UNDEFINED.match(said) or _UNDEFINED.match(after):
        draft = Draft(FindingKind.ERROR, "ld", found.group())
        draft.name(_linked_name(found))
    elif tool and (other := _OTHER_LINK.match(said) or _OTHER_LINK.match(after)):
        draft = Draft(FindingKind.ERROR, "ld", other["text"])
        if against := _AGAINST.search(said):
            draft.name(against["name"])
    else:
        return None
    draft.tell(line)
    if place:
        path = place["path"] if place["line"] else _source_of(output, place["path"])
        draft.place(output.path(path), int(place["line"] or 0))
        if output.linking[1]:
            draft.name(output.linking[1])
            draft.tell(f"in function {output.linking[1]}")
    return draft


def _references(output: Output, at: int, draft: Draft) -> int:
    """Takes up lld's and mold's lines of where a symbol is used or defined; the line after them."""
    while (line := output.line(at)).startswith(">>> ") or _MOLD_REFERENCE.match(line):
        draft.tell(line)
        if source := _REFERENCE_PLACE.search(line) or (_SOURCE_PLACE.search(line) if _REFERENCE.match(line) else None):
            draft.place(output.path(source["path"]), int(source["line"]))
        elif file := _REFERENCE_FILE.match(line):
            draft.place(output.path(file["path"]), 0)
        elif held := _REFERENCE_NAME.search(line):
            draft.name(held["name"])
        at += 1
    return at


def _linked_name(found: re.Match[str]) -> str:
    name = found["name"]
    if found["quoted"]:
        closing = max(name.rfind("'"), name.rfind("\u2019"), name.rfind('"'))
        if "; " in name:
            closing = name.find("';") if "';" in name else closing
        name = name[:closing] if closing > 0 else name
    return name


def _source_of(output: Output, path: str) -> str:
    """The source of an object: a linker without debugging information names only the file, CMake's object its path."""
    for text in (output.linking[0], path):
        if found := _OBJECT_FOLDER.match(text):
            return found["path"]
    return path


def build_tool(output: Output, at: int) -> int:
    """What make, ninja, CMake, Bazel and the shell say themselves."""
    line = output.lines[at]
    if line.startswith("CMake "):
        return _cmake(output, at)
    if found := _MAKE.match(line):
        draft = _make(output, found["text"])
    elif found := _MAKE_MISSES.match(line):
        draft = Draft(FindingKind.ERROR, "make", found["text"])
    elif found := _MAKE_AT.match(line):
        draft = Draft(FindingKind.ERROR, "make", found["text"], output.path(found["path"]), int(found["line"]))
    elif found := _NINJA.match(line):
        draft = Draft(FindingKind.ERROR, "ninja", found["text"])
        if place := _FILE_AND_LINE.match(found["text"]):
            draft.place(output.path(place["path"]), int(place["line"]))
    elif found := _BAZEL.match(line):
        draft = Draft(FindingKind.ERROR, "bazel", found["text"], output.path(found["path"]), int(found["line"]))
        draft.consequence = True
    elif found := _SHELL.match(line):
        draft = Draft(FindingKind.ERROR, "sh", found["text"])
    elif line.startswith(("ninja: build stopped", "FAILED: ")):
        draft = Draft(FindingKind.ERROR, "ninja", line, consequence=True)
    else:
        return 0
    draft.tell(line)
    output.add(draft, at)
    return at + 1


def _make(output: Output, text: str) -> Draft:
    """What stands behind the three asterisks: of its own, or that a command failed, which said why itself."""
    draft = Draft(FindingKind.ERROR, "make", text)
    if rule := _MAKE_RULE.match(text):
        draft.place(output.path(rule["path"]), int(rule["line"]))
    draft.consequence = rule is not None or text.startswith(("[", "Waiting"))
    return draft


def _cmake(output: Output, at: int) -> int:
    found = _CMAKE.match(output.lines[at])
    if not found:
        return 0
    kind = FindingKind.ERROR if found["level"] == "Error" else FindingKind.WARNING
    draft = Draft(kind, "cmake", found["rest"].strip())
    draft.tell(output.lines[at])
    if found["path"]:
        draft.place(output.path(found["path"]), int(found["line"] or 0))
    end = at + 1
    said = [draft.message] if draft.message else []
    calls = False
    while end < len(output.lines) and end - at < 60:
        line = output.lines[end]
        if line.startswith("Call Stack"):
            calls = True
        elif line.strip() and not line.startswith("  "):
            break
        elif calls and line.strip():
            if (call := re.match(r"\s+(?P<path>[^:\n]{1,300}):(?P<line>\d{1,7}) \(", line)) and not draft.path:
                draft.place(output.path(call["path"]), int(call["line"]))
        elif line.strip() and sum(map(len, said)) < 400:
            said.append(line.strip())
        draft.tell(line)
        end += 1
    draft.message = " ".join(said)
    output.add(draft, at)
    return end
