"""Reports of test frameworks in XML that a program printed: Catch2's own, and JUnit's as all frameworks write it.

Read line by line with the rest of the output: what is printed may be cut off, or stand between other lines, so it is no
document to be parsed. Attributes are those of the line; entities are resolved.
"""

import re
from html import unescape

from agents.model import FindingKind
from agents.results.output import Draft, Output

_CASE = re.compile(r"\s{0,40}<(?:TestCase|testcase)\s")
_FAILURE = re.compile(r"\s{0,40}<(?P<tag>Expression|Exception|FatalErrorCondition|Failure|failure|error)[\s>]")
_ATTRIBUTE = re.compile(r"\b(?P<name>name|classname|filename|line|message|success)=\"(?P<value>[^\"\n]{0,1500})\"")
_AT = re.compile(r"(?:at )?(?P<path>[^\s:()<>]{1,400}):(?P<line>\d{1,7})(?::|$)")
_TAG = re.compile(
    r"</?(?:Original|Expanded|Expression|Exception|Info|Message|FatalErrorCondition|[Ff]ailure|error)\b[^<>]{0,300}>|\]\]>"
)
_END = re.compile(r"\s{0,40}</(?:testsuites|Catch|Catch2TestRun|doctest)>")
_XML = "xml"
_NO_NEWS = ("FAILED:", "with expansion:", "unknown file")
_MOST_LINES = 40  # of a failure
_MOST_SAID = 8  # of them that make its message


def report(output: Output, at: int) -> int:
    """The name of a test, or one failure of it with its place."""
    line = output.lines[at]
    if "<" not in line:
        return 0
    if _END.match(line):
        output.test = output.framework = ""
        return at + 1
    if _CASE.match(line):
        given = _attributes(line)
        group, name = given.get("classname", ""), given.get("name", "")
        output.test = f"{group}.{name}" if _is_suite(group) else name
        output.framework = _XML
        return at + 1
    found = _FAILURE.match(line) if output.framework == _XML else None
    given = _attributes(line) if found else {}
    if found is None or given.get("success") == "true":
        return 0
    kind = FindingKind.CRASH if found["tag"] == "FatalErrorCondition" else FindingKind.TEST
    draft = Draft(kind, _XML, "", test=output.test)
    number = given.get("line", "")
    draft.place(output.path(given.get("filename", "")), int(number) if number.isdecimal() else 0)
    end = _body(output, at, found["tag"], draft)
    if found["tag"] == "error" or not draft.message:
        draft.message = "; ".join(filter(None, (given.get("message", ""), draft.message))) or "failed"
    output.add(draft, at)
    return end


def _body(output: Output, at: int, tag: str, draft: Draft) -> int:
    """Takes up what stands within the element; the line after it."""
    said: list[str] = []
    closing = f"</{tag}>"
    last = min(len(output.lines), at + _MOST_LINES)
    end = at
    while end < last:
        line = output.lines[end]
        inner = line.partition("<![CDATA[")[2] if end == at else line
        text = unescape(_TAG.sub(" ", inner)).strip()
        draft.tell(text)
        if not draft.path and (place := _AT.match(text)):
            draft.place(output.path(place["path"]), int(place["line"]))
        elif text and text not in said and text not in _NO_NEWS and not _AT.match(text) and len(said) < _MOST_SAID:
            said.append(text)
        end += 1
        if closing in line or line.rstrip().endswith("/>"):
            break
    draft.message = "; ".join(said).replace(":; ", ": ").replace("; Which is: ", " is ")
    return end


def _attributes(line: str) -> dict[str, str]:
    return {found["name"]: unescape(found["value"]) for found in _ATTRIBUTE.finditer(line)}


def _is_suite(name: str) -> bool:
    """Whether a class of JUnit's is a suite of GoogleTest rather than the name of the program."""
    return bool(name) and "." not in name
