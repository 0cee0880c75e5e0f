r"""Makes questions with known answers out of a tree and its history: comments, commit messages and names.

A function's comment asks for the function, and is taken out of the tree meanwhile, its lines left standing; a commit's
message asks for the files that it changed. Pure: texts, symbols and commits come in, labels and edited texts go out.
Knows nothing of how an answer is found, and runs neither git nor the parser; ``hub.evaluation`` puts it to work.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from itertools import chain

from hub.retrieval import is_test_path
from indexer.index import query_words
from indexer.model import Span, Symbol, SymbolId, SymbolKind

# How labels are chosen. More labels make an interval narrower, more hidden comments make the tree poorer.
SHARE_HIDDEN = 0.5  # 0.1 to 1; of the functions with a usable comment, those whose comment is hidden
ALWAYS_HIDDEN = 200  # 0 to 1,000; up to so many are hidden whatever their share: fewer labels tell too little
MOST_FUNCTIONS = 600  # 100 to 5,000; functions whose comment is hidden
MOST_COMMITS = 400  # 50 to 2,000
MOST_NAMES = 200  # 50 to 1,000
LEAST_DESCRIPTION_WORDS = 5
LEAST_BODY_WORDS = 25  # of a comment that describes a whole body
LEAST_BODY_LINES = 8
LEAST_PROSE = 0.75  # of a description's characters that are letters or blanks; below it is a grammar, a table, code
SHORT_SENTENCE_WORDS = 8  # a first sentence below this is asked with the one that follows it
LEAST_CONTENT_WORDS = 3  # of a question, stop words and the function's own name not counted
MOST_PLACES = 4  # a symbol that stands in more places is several functions that share a name, such as main
MOST_CHANGED_SOURCES = 10  # of a commit; above, its message hardly names what it is about
MOST_CHANGED_FILES = 20  # with documents, builds and data
QUESTION_CHARS = 1_500  # of a long comment or message

Gold = Span | str  # lines of a file, or the path of a whole one


class LabelKind(StrEnum):
    DESCRIPTION = "description"  # the first sentence or two of a function's comment: its definition, or all there is
    BODY = "body"  # a long comment: the body that it describes
    COMMIT = "commit"  # a commit's message: the files that it changed
    NAME = "name"  # a name as it is typed: where symbols of that name stand
    OWN = "own"  # a question that the user brought


@dataclass(frozen=True, slots=True)
class Label:
    """One question. ``gold`` is sorted; ``held_out`` says that nothing may be fitted on it."""

    kind: LabelKind
    question: str
    gold: tuple[Gold, ...]
    about: str = ""  # the qualified name or the commit that it was made from
    held_out: bool = True
    told: str = ""  # of a comment, its words with the function's own name, where they hold it


@dataclass(frozen=True, slots=True)
class Hidden:
    """Labels made of comments, and the texts of the files, by path, without these comments."""

    labels: tuple[Label, ...]
    texts: Mapping[str, str]
    usable: int  # functions that had a usable comment
    hidden: int  # functions whose comment was taken out
    dropped: int  # of these, how many gave no label because their words stand elsewhere too


@dataclass(frozen=True, slots=True)
class PastCommit:
    """A commit as labels see it. ``paths`` are those that it changed, as they were called at the split."""

    id: str
    message: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Documented:
    symbol: SymbolId
    places: tuple[Symbol, ...]
    description: tuple[str, ...]  # sentences
    whole: str  # the comment in one line


_FUNCTIONS = (SymbolKind.FUNCTION, SymbolKind.METHOD)
_NAMED = (*_FUNCTIONS, SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.ENUM)
_WORD = re.compile(r"\w+")
_PROSE = re.compile(r"[^\W\d_]+|\s+")
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w{2,}")

# Comments
_SUMMARY = re.compile(r"^\s*[@\\](?:brief|short|details|fn\b.*|overload)\s*")
_SECTION = re.compile(
    r"^\s*(?:[@\\](?!brief|short|details|c\b|p\b|a\b|e\b|b\b|em\b|ref\b|link\b|n\b)[a-zA-Z]+"
    r"|(?:args|arguments|parameters?|params|returns?|throws|examples?|notes?|usage|input|output|see also)\s*:"
    r"|```|~~~|<pre>|\* @)",
    re.IGNORECASE,
)
_INLINE = re.compile(r"[@\\](?:c|p|a|e|b|em|ref|link|endlink|n|brief|short|details)\b\s?|</?[a-zA-Z]{1,10}/?>|[`{}]")
_COMMAND = re.compile(r"[@\\][a-zA-Z]+(?:\[[a-z, ]{1,12}\])?")
_CODE = re.compile(
    r"[;{]\s*$|^\s*[})]|\breturn\b[^.]{0,80};|::~?\w+\([^)]{1,80}\)|^\s*#\s*\w", re.MULTILINE
)  # commented out
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(\[])")
# Comments, and what may hold their marks without being one.
_COMMENT = re.compile(
    r'R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"'
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'(?:[^'\\\n]|\\.)+'"
    r"|(?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z))",
    re.DOTALL,
)
_MARKS = " \t\r*/!<"
_COMMENT_REACH = 120  # lines above a declaration in which its comment may begin

# Commits
_TRAILER = re.compile(
    r"^[ \t]*(?:[a-z][\w-]{2,30}-(?:by|id|on|from|url|revid|log)[ \t]*:|copybara[\w-]{0,30}[ \t]*:|cc[ \t]*:"
    r"|\(cherry picked from\b|(?:bugs?|issues?|fix(?:es|ed)?|close[sd]?|resolve[sd]?|see)[ \t]*:?[ \t]*#?\d).{0,300}$",
    re.IGNORECASE | re.MULTILINE,
)
_CODES = re.compile(r"https?://\S+|\b[0-9a-f]{7,40}\b|\(?#\d+\)?|\b\d+\b")
_SAYS_NOTHING = re.compile(
    r"^\W*(?:merged?\b|revert\b|reverted\b|bump\b|(?:release|version)\W*v?\d|v?\d+(?:\.\d+)+|roll ?back\b|rollforward\b"
    r"|automated rollback|prepare (?:for )?(?:the )?release|(?:re-?)?run clang-?format|clang-?format\b|wip\b"
    r"|internal change\b|initial (?:commit|import)\b)",
    re.IGNORECASE,
)


def hide_comments(
    symbols: Iterable[Symbol],
    read: Callable[[str], str | None],
    paths: Iterable[str],
    seed: int,
    others: Iterable[str] = (),
) -> Hidden:
    """Takes the comments of a sample of functions out of a tree, and asks for the functions with them.

    ``read`` gives the text of a file, ``paths`` are all files that are searched, ``others`` are texts that are searched
    beside them, such as messages of commits. Deterministic for equal arguments. No sentence that is asked stands in any
    of these texts any more; a function of which that cannot be had gives no label.
    """
    usable = _usable(symbols)
    chosen = _sample(usable, seed)
    edited: dict[str, str] = {}
    located = [function for function in chosen if _take_out(function.places, read, edited)]
    sentences = [[words_of(sentence) for sentence in function.description] for function in located]
    texts = (edited[path] if path in edited else read(path) for path in paths)
    standing = _standing({sentence for group in sentences for sentence in group}, chain(texts, others))
    labels: list[Label] = []
    dropped = 0
    for function, group in zip(located, sentences, strict=True):
        if standing.intersection(group):
            dropped += 1
        else:
            labels += _labels_of(function, seed)
    return Hidden(tuple(labels), edited, len(usable), len(located), dropped)


def name_labels(symbols: Iterable[Symbol], seed: int) -> list[Label]:
    """Bare and qualified names of functions and types that the tree defines, each asked as it is typed."""
    bare: dict[str, set[Span]] = defaultdict(set)
    qualified: dict[str, set[Span]] = defaultdict(set)
    defined: set[str] = set()
    for symbol in symbols:
        if symbol.kind is SymbolKind.SECTION:
            continue
        line = symbol.line or symbol.span.first_line
        place = Span(symbol.span.path, line, line)
        bare[symbol.name].add(place)
        qualified[symbol.qualified_name].add(place)
        if symbol.is_definition and symbol.kind in _NAMED and _PLAIN_NAME.fullmatch(symbol.name):
            defined.add(symbol.qualified_name)
    labels = []
    for number, name in enumerate(sorted(defined, key=lambda name: (order_of(seed, name), name))[:MOST_NAMES]):
        whole = number % 2 and "::" in name
        asked, places = (name, qualified) if whole else (name.rpartition("::")[2], bare)
        labels.append(Label(LabelKind.NAME, asked, tuple(sorted(places[asked])), name, is_held_out(seed, name)))
    return labels


def says_something(message: str) -> bool:
    """Whether a commit's message tells what was changed: no merge, revert or release, and three words of content."""
    return not _SAYS_NOTHING.match(message) and len(_content_words(asked_of(message))) >= LEAST_CONTENT_WORDS


def asked_of(message: str) -> str:
    """A commit's message as a question: without its trailers, at most QUESTION_CHARS long."""
    return _TRAILER.sub("", message).strip()[:QUESTION_CHARS]


def commit_labels(later: Sequence[PastCommit], sources: Iterable[str], before: Iterable[str]) -> list[Label]:
    """Labels of commits after the split, given oldest first; the first half of them may be fitted on.

    ``sources`` are the C++ files that were there at the split. ``before`` holds the messages up to the split: a commit
    that repeats one of them was picked from there, and its answer is known.
    """
    known = frozenset(sources)
    told = {words_of(asked_of(message)) for message in before}
    labels = []
    for commit in later:
        gold = tuple(sorted(known.intersection(commit.paths)))
        question = asked_of(commit.message)
        if not _is_about_few(commit.paths, gold) or not says_something(commit.message) or words_of(question) in told:
            continue
        told.add(words_of(question))
        labels.append(Label(LabelKind.COMMIT, question, gold, commit.id))
    labels = labels[:MOST_COMMITS]
    half = len(labels) // 2
    return [
        Label(label.kind, label.question, label.gold, label.about, number >= half)
        for number, label in enumerate(labels)
    ]


def blanked_comment(text: str, place: Symbol) -> str | None:
    """The text with the comment above a declaration taken out, its lines left; None where it is not found there."""
    start = next((line.strip() for line in place.doc.split("\n") if line.strip()), "")
    lines = text.split("\n")
    last = place.span.first_line - 1  # lines above the declaration, as an end of a slice
    if not start or last > len(lines):
        return None
    for first in range(last - 1, max(-1, last - 1 - _COMMENT_REACH), -1):
        if start in lines[first] and not lines[first].split(start, 1)[0].strip(_MARKS):
            break
    else:
        return None
    head = lines[first].split(start, 1)[0]
    if "//" not in head and "/*" not in head:  # it goes on with a block comment that opened above
        opening = (at for at in range(first - 1, max(-1, first - 1 - _COMMENT_REACH), -1) if "/*" in lines[at])
        first = next(opening, last)
    stretch = "\n".join(lines[first:last])
    cleared = _COMMENT.sub(_spaces, stretch)
    if start in cleared:
        return None
    lines[first:last] = [line.rstrip(" ") for line in cleared.split("\n")]
    return "\n".join(lines)


def without_comments(text: str) -> str:
    """The text with a blank for each comment and each quoted text."""
    return _COMMENT.sub(" ", text)


def _is_about_few(paths: Sequence[str], gold: Sequence[str]) -> bool:
    return 1 <= len(gold) <= MOST_CHANGED_SOURCES and len(paths) <= MOST_CHANGED_FILES


# Comments


def _usable(symbols: Iterable[Symbol]) -> list[_Documented]:
    """The functions whose comment can be asked, by place; comments that several functions share ask for none."""
    places: dict[SymbolId, list[Symbol]] = defaultdict(list)
    for symbol in symbols:
        if symbol.kind in _FUNCTIONS and _PLAIN_NAME.fullmatch(symbol.name) and symbol.name != "main":
            places[symbol.id].append(symbol)
    found = []
    for identifier, group in places.items():
        documented = [place for place in group if place.doc]
        tested = any(is_test_path(place.span.path) for place in group)
        if not documented or tested or len(group) > MOST_PLACES:
            continue
        longest = max(documented, key=lambda place: (len(place.doc), place.span))
        description = _description(longest.doc)
        question = _without_name(" ".join(description), group[0].name)
        if _is_prose(" ".join(description)) and len(_content_words(question)) >= LEAST_CONTENT_WORDS:
            found.append(_Documented(identifier, tuple(group), description, _one_line(longest.doc)))
    shared = Counter(words_of(function.description[0]) for function in found)
    return [function for function in found if shared[words_of(function.description[0])] == 1]


def _is_prose(description: str) -> bool:
    letters = sum(map(len, _PROSE.findall(description)))
    return len(_WORD.findall(description)) >= LEAST_DESCRIPTION_WORDS and letters >= LEAST_PROSE * len(description)


def _sample(usable: Sequence[_Documented], seed: int) -> list[_Documented]:
    wanted = min(MOST_FUNCTIONS, max(ALWAYS_HIDDEN, round(len(usable) * SHARE_HIDDEN)))
    return sorted(usable, key=lambda function: (order_of(seed, function.symbol), function.symbol))[:wanted]


def _labels_of(function: _Documented, seed: int) -> Iterator[Label]:
    first = function.places[0]
    held_out = is_held_out(seed, function.symbol)
    # Who asks for a function wants its code. A declaration among hundreds of a class is easy to hit and tells little.
    wanted = [place for place in function.places if place.is_definition] or function.places
    asked = _without_name(" ".join(function.description), first.name)
    gold = tuple(sorted({place.span for place in wanted}))
    told = " ".join(function.description)
    yield Label(LabelKind.DESCRIPTION, asked, gold, first.qualified_name, held_out, told)
    bodies = tuple(sorted({place.span for place in function.places if _is_body(place)}))
    if bodies and len(_WORD.findall(function.whole)) >= LEAST_BODY_WORDS:
        whole = _without_name(function.whole, first.name)[:QUESTION_CHARS]
        told = function.whole[:QUESTION_CHARS]
        yield Label(LabelKind.BODY, whole, bodies, first.qualified_name, held_out, told)


def _is_body(place: Symbol) -> bool:
    return place.is_definition and place.span.last_line - place.span.first_line + 1 >= LEAST_BODY_LINES


def _description(doc: str) -> tuple[str, ...]:
    """The first sentence of a comment, and the second where the first is short."""
    lines: list[str] = []
    for raw in doc.split("\n"):
        line = _SUMMARY.sub("", raw).strip()
        if _SECTION.match(line) or (not line and lines):
            break
        if line:
            lines.append(line)
    if _CODE.search("\n".join(lines)):
        return ()
    sentences = [part.strip() for part in _SENTENCE_END.split(_INLINE.sub("", " ".join(lines)))]
    sentences = [part for part in sentences if _WORD.search(part)]
    if not sentences:
        return ()
    enough = len(_WORD.findall(sentences[0])) >= SHORT_SENTENCE_WORDS
    return tuple(sentence[:QUESTION_CHARS] for sentence in sentences[: 1 if enough else 2])


def _one_line(doc: str) -> str:
    return " ".join(_COMMAND.sub(" ", _INLINE.sub("", doc)).split())


def _without_name(text: str, name: str) -> str:
    """The text without the function's own name, whatever qualifies it and however it is called."""
    pattern = rf"(?:\b\w+(?:::|\.|->))*\b{re.escape(name)}\b(?:\(\))?"
    return " ".join(re.sub(pattern, " ", text).split())


def _take_out(places: Sequence[Symbol], read: Callable[[str], str | None], edited: dict[str, str]) -> bool:
    """Blanks the comments of a function wherever it is documented. False, and nothing done, where one is not found."""
    texts: dict[str, str] = {}
    for place in places:
        if not place.doc:
            continue
        path = place.span.path
        text = texts.get(path, edited.get(path, read(path)))
        blanked = None if text is None else blanked_comment(text, place)
        if blanked is None:
            return False
        texts[path] = blanked
    edited.update(texts)
    return bool(texts)


def _spaces(match: re.Match[str]) -> str:
    """Line ends stay where they are, and so does what is no comment."""
    return match[0] if match["comment"] is None else " " + "\n" * match[0].count("\n")


def _standing(sentences: set[str], texts: Iterable[str | None]) -> set[str]:
    """Those of the normal sentences that stand in any of the texts, across lines and marks of comments."""
    rest = {sentence: frozenset(sentence.split()) for sentence in sentences}
    found: set[str] = set()
    for text in texts:
        if text is None or not rest:
            continue
        normal = words_of(text)
        held = frozenset(normal.split())
        here = {sentence for sentence, words in rest.items() if words <= held and f" {sentence} " in f" {normal} "}
        found |= here
        for sentence in here:
            del rest[sentence]
    return found


# Both


def words_of(text: str) -> str:
    """The words of a text in lower case, one blank apart."""
    return " ".join(_WORD.findall(text.lower()))


def _content_words(text: str) -> list[str]:
    return [word for word in query_words(_CODES.sub(" ", text)) if len(word) > 1]


def order_of(seed: int, name: str) -> bytes:
    """A place in an order that the seed shuffles and that no other label can change."""
    return blake2b(f"{seed}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


def is_held_out(seed: int, name: str) -> bool:
    return blake2b(f"{seed}\0half\0{name}".encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] >= 128
