"""Which sentences of a text say why: of a message, a comment, a document; and whether a document still holds.

Pure: reads texts alone, knows neither git nor the index. A sentence counts by the words that it gives its reason with,
which is a guess about language and is told as one.
"""

import re
from typing import NamedTuple

from hub.prompting import visible

HEAD_LINES = 60  # of a document, in which it says whether it still holds
HEAD_CHARS = 8_000
MOST_READ = 20_000  # characters of a text that are read for reasons
LONGEST_SENTENCE = 600  # characters that are shown of one
MOST_ISSUES = 20

DOCUMENTS = ("*.md", "*.markdown", "*.rst", "*.txt", "*.adoc", "NEWS", "CHANGES", "ChangeLog", "README")
_NO_DOCUMENT = re.compile(r"(?:^|/)(?:CMakeLists\.txt|requirements[^/]*\.txt|robots\.txt|LICEN[CS]E[^/]*)$")
# Folders and names of records of decisions, which say why where others say how; and words with which they tell it.
_DECISION = re.compile(
    r"(?:^|/)(?:adrs?|decisions?|rfcs?|design|proposals?)/|(?:^|/)(?:adr|rfc|decision|design)[-_]?\d*", re.IGNORECASE
)
_DECIDED = re.compile(
    r"\b(?:decid|decision|instead of|rather than|because|trade-?off|chose|rejected|alternative)", re.IGNORECASE
)
# What is knowledge by its name, as entries that people keep are; None for kinds that no usual name says.
_KNOWLEDGE = re.compile(r"\.codehub/knowledge/[^\n]{1,400}\.(?:md|markdown)\Z")
_NAMES_SAY = {
    "decision": None,
    "architecture": re.compile(r"(?:^|/)architecture[^/]*(?:\.\w{1,8}|/[^/]+)$", re.IGNORECASE),
    "standard": re.compile(
        r"(?:^|/)(?:contributing|coding[-_ ]?\w{0,12}|conventions?|guidelines?|hacking"
        r"|[\w-]{0,40}style(?:[-_ ]?guide)?)\.\w{1,8}$",
        re.IGNORECASE,
    ),
    "gotcha": re.compile(r"(?:^|/)(?:gotchas?|pitfalls?|known[-_ ]?issues?|troubleshooting)\.\w{1,8}$", re.IGNORECASE),
}
_STATUS = re.compile(
    r"[\s>]{0,4}(?:[-*]\s)?[*_]{0,3}status[*_]{0,3}[ \t]{0,4}[:-][\s*_]{0,6}(?P<word>[a-z]{3,20})(?![a-z])",
    re.IGNORECASE,
)
# What a document says of itself: at the beginning of a line, so that what it says of other things does not count.
_NO_LONGER = re.compile(
    r"[\s>]{0,4}(?:(?:[-*]\s)?[*_]{0,3}status[\s*_:-]{1,12}(?:superseded|deprecated|rejected|obsolete)\b.{0,200}"
    r"|[*_]{0,3}(?:superseded|obsoleted) by\b.{0,200}"
    r"|[*_]{0,3}replaced by (?=\[|adr|rfc|#?\d|decision).{0,200}"
    r"|[*_]{0,3}this (?:adr|rfc|decision|document|page|guide|section|proposal|design|file|text) (?:is|was|has been)"
    r" (?:superseded|deprecated|replaced|rejected|obsolete|no longer)\b.{0,200})",
    re.IGNORECASE,
)
_TAKES_PLACE = re.compile(
    r"(?:\bsupersedes\b|\breplaces\b|\btakes the place of\b|\bobsoletes\b)(?P<rest>.{0,200})", re.IGNORECASE
)
_LINKED = re.compile(r"\]\((?P<path>[^)\s#]{1,300})")
_GIVEN_UP = re.compile(r"superseded|deprecated|rejected|obsolete", re.IGNORECASE)
_STATUS_HEADING = re.compile(r"(?:#{1,6} |\.\. )?status:?", re.IGNORECASE)
_DATED = re.compile(r"\bdate\W{0,6}(?P<date>\d{4}-\d\d-\d\d)", re.IGNORECASE)
_REVERTS = re.compile(r"\bThis reverts commit (?P<id>[0-9a-f]{7,64})\b")

# Words that give a reason, and words that often stand where one is given. What each is worth is a judgement.
_SAYS_WHY = re.compile(
    r"\b(?:because|so that|so as to|in order to|to avoid|to prevent|otherwise|or else|due to|the reason|reasons?:"
    r"|instead of|rather than|which would|would (?:otherwise|have|be|lose|break|fail|leak|leave)|necessary"
    r"|needed (?:for|by|to)"
    r"|caus(?:e[sd]?|ing)|without (?:this|it|that)|lead(?:s|ing)? to|result(?:s|ed|ing)? in"
    r"|prevent(?:s|ed|ing)?"
    r"|avoid(?:s|ed|ing)?|ensures?|guarantees?|undefined behaviou?r|is UB|allow(?:s|ing)"
    r"|makes? it (?:possible|easier|harder))\b",
    re.IGNORECASE,
)
_HINTS_WHY = re.compile(
    r"\b(?:fix(?:es|ed)?|since|as reported|bug|crash(?:es|ed)?|leak(?:s|ed)?|race|deadlock|corrupt\w{0,4}"
    r"|overflow"
    r"|regression|fail(?:s|ed|ure)?|slow(?:er)?|fast(?:er)?|too (?:large|small|many|long|slow)|incorrect(?:ly)?"
    r"|wrong(?:ly)?"
    r"|problem|therefore|thus|hence|intended|improves?|reduces?|no longer|deprecated|unsafe|security"
    r"|would|must|cannot)\b",
    re.IGNORECASE,
)
_ISSUE = re.compile(
    r"(?<![\w&/])#\d{1,7}\b|\bGH-\d{1,7}\b"
    r"|\b(?!(?:UTF|SHA|ISO|CRC|RFC|MD|AES|GPL|BSD|ASCII|LATIN)-)[A-Z][A-Z0-9]{1,9}-\d{1,7}\b"
    r"|^[ \t]*(?:Bug|Issue|Fixes|Closes|Refs?)s?:[ \t]{0,4}(?!none\b)(?P<named>[^\s#][^\n]{0,100})"
    r"|https?://[^\s<>()\"']{1,200}/(?:issues?|bugs?|pull|merge_requests|browse)/[\w./-]{1,60}"
    r"|https?://(?:[\w.-]{1,60}bug[\w.-]{0,60}/[\w?=./-]{1,60}|crbug\.com/\d{1,9})|\b(?:b|cl)/\d{4,12}\b",
    re.MULTILINE,
)
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?P<lines>(?:(?!---)[^\n]*\n){0,60})---[ \t]*(?:\n|\Z)")
# Lines that tools put under a message, and figures that are pasted into one.
_NO_PROSE = re.compile(
    r"^[ \t]*(?:[A-Z][\w-]{2,30}-by|git-svn-id|Change-Id|PiperOrigin-RevId|MOE_MIGRATED_REVID|Reviewed-on"
    r"|Cr-Commit-Position|cc|Bugs?|Issues?|Refs?|Fixes|Closes)[ \t]*[:=][^\n]*$|^[-=_* ]{4,}$|^[ \t]*(?:\$|>)[^\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_BLOCK = re.compile(r"\n[ \t]*\n|\n(?=[ \t]{0,8}(?:[-*+•]|\d{1,2}[.)])[ \t])|\n(?=#{1,6} )|\n(?=\|)")
_BULLET = re.compile(r"[ \t]{0,8}(?:[-*+•]|\d{1,2}[.)])[ \t]{1,8}")
_SENTENCE_END = re.compile(r"(?<=[.!?])[*_`\")]{0,3}\s+(?=[\"'(`*\[]{0,3}[A-Z0-9])|;\s+(?=[a-z])")
_SPACES = re.compile(r"\s+")


class Sentence(NamedTuple):
    """One sentence, in one line, and how surely it gives a reason: 2 it says so, 1 it may, 0 it states something."""

    text: str
    weight: int


def sentences(text: str) -> tuple[Sentence, ...]:
    """The sentences of prose, in their order: paragraphs and points of lists apart, without tables and trailers."""
    plain = _NO_PROSE.sub("", text[:MOST_READ])
    found = []
    for block in _BLOCK.split(plain):
        shown = _SPACES.sub(" ", _BULLET.sub("", block, count=1)).replace("**", "").strip(" #")
        if not shown or shown.startswith("|"):
            continue
        parts = (part.strip() for part in _SENTENCE_END.split(shown))
        found += [Sentence(_short(said), weight_of(said)) for said in parts if said]
    return tuple(found)


def weight_of(sentence: str) -> int:
    """How surely a sentence gives a reason, as in Sentence."""
    return 2 if _SAYS_WHY.search(sentence) else 1 if _HINTS_WHY.search(sentence) else 0


def why(text: str, most: int) -> tuple[str, ...]:
    """The sentences that give a reason, at most so many, the surest chosen and shown in the order of the text."""
    heard = [(-each.weight, place, each.text) for place, each in enumerate(sentences(text)) if each.weight]
    return tuple(said for _, _, said in sorted(sorted(heard)[:most], key=lambda each: each[1]))


def issues(text: str) -> tuple[str, ...]:
    """The issues, pull requests and bugs that a text names, in order, each once."""
    found = (said["named"] or said.group() for said in _ISSUE.finditer(text[:MOST_READ]))
    return tuple(dict.fromkeys(_short(each.strip().rstrip(".,;")) for each in found))[:MOST_ISSUES]


def reverted(message: str) -> tuple[str, ...]:
    """The beginnings of the hashes that a message says it takes back."""
    return tuple(said["id"] for said in _REVERTS.finditer(message[:HEAD_CHARS]))


def front_matter(head: str) -> dict[str, str]:
    """The lines ``name: value`` between ``---`` with which a Markdown file may begin, names in small letters."""
    found = _FRONT_MATTER.match(head[:HEAD_CHARS])
    pairs = (line.partition(":") for line in found["lines"].splitlines()) if found else ()
    return {
        name.strip().lower(): value.strip().strip("\"'") for name, _, value in pairs if name.strip() and value.strip()
    }


def without_front_matter(text: str) -> str:
    """A Markdown text behind the lines that ``front_matter`` reads."""
    found = _FRONT_MATTER.match(text[:HEAD_CHARS])
    return text[found.end() :] if found else text


def is_document(path: str) -> bool:
    """Whether a file that DOCUMENTS lets through is one for people."""
    return not _NO_DOCUMENT.search(path)


def is_decision(path: str) -> bool:
    """Whether a path is where records of decisions are kept."""
    return _DECISION.search(path) is not None


def kept_as(path: str, head: str) -> str:
    """What of knowledge a document is by its name, or by what it says first: a kind of entry, "" for none."""
    if _KNOWLEDGE.match(path):
        said = front_matter(head).get("kind", "").lower()
        return said if said in _NAMES_SAY else "gotcha"
    if is_decision(path):
        return "decision"
    return next((kind for kind, pattern in _NAMES_SAY.items() if pattern and pattern.search(path)), "")


def status_of(head: str) -> str:
    """The word with which the beginning of a document says how far it holds, in small letters; "" for none."""
    if said := front_matter(head).get("status", ""):
        return _one_line(said.partition(" ")[0].lower())
    for number, line in enumerate(lines := head.splitlines()):
        if said_so := _STATUS.match(line):
            return said_so["word"].lower()
        if _STATUS_HEADING.fullmatch(line.strip()):
            after = next((each.strip(" *_-") for each in lines[number + 1 : number + 5] if each.strip(" =-*_")), "")
            return _one_line(after.split(" ")[0].strip(".,;").lower())
    return ""


def speaks_of_deciding(text: str) -> bool:
    """Whether a text weighs one way against another."""
    return _DECIDED.search(text) is not None


def outdated(head: str) -> str:
    """The sentence with which the beginning of a document says that it no longer holds; "" where it says nothing."""
    lines = head.splitlines()
    for number, line in enumerate(lines):
        if said := _NO_LONGER.match(line):
            return _one_line(f"{said.group().strip(' >*_#:-')} (line {number + 1})")
        if _STATUS_HEADING.fullmatch(line.strip()):
            rest = enumerate(lines[number + 1 : number + 5], number + 2)
            at, after = next(((at, each.strip()) for at, each in rest if each.strip(" =-")), (0, ""))
            if _GIVEN_UP.match(after):
                return _one_line(f"status: {after[:200]} (line {at})")
    return ""


def replaces(head: str) -> tuple[str, ...]:
    """The names of the files that the beginning of a document says it takes the place of."""
    named = (part.strip() for part in front_matter(head).get("supersedes", "").split(","))
    linked = (
        link["path"].rpartition("/")[2]
        for said in _TAKES_PLACE.finditer(head)
        for link in _LINKED.finditer(said["rest"])
    )
    return tuple(dict.fromkeys((*(name.rpartition("/")[2] for name in named if name), *linked)))


def date_in(head: str) -> str:
    """The date that a document gives itself, as YYYY-MM-DD; "" where it gives none."""
    written = _DATED.search(head)
    return written["date"] if written else ""


def _short(said: str) -> str:
    shown = _one_line(said)
    return shown if len(shown) <= LONGEST_SENTENCE else f"{shown[: LONGEST_SENTENCE - 2]} …"


def _one_line(text: str) -> str:
    return visible(text).replace("\n", "\\n").replace("\t", " ")
