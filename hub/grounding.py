"""Checks what a model writes against the evidence it was given, and quotes the evidence itself where that fails.

A sentence is shown only when it has passed: labels that were not in the prompt are taken out, names that stand nowhere
and repetitions end the answer. Knows nothing of models; everything here is text in, text and reasons out.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from hub.model import Citation, Prompt
from indexer.model import Span

# Constants of the checks and of quoting, each with its range. Judgements, checked by the cases in tests/test_grounding.
QUOTED_LINES = 12  # lines of a quote: 6 to 40
KEY_SENTENCES = 3  # sentences of comments and documents put before the quotes: 1 to 6
LONGEST_SENTENCE = 60  # words; what is longer is a table or a list that lost its line ends
NEW_SHARE = 0.25  # 0 to 1; a further sentence must say so much of what the best one says, in words not said yet
QUOTES = 3  # pieces of evidence quoted: 1 to 8
QUOTE_SHARE = 0.45  # 0 to 1; a further quote must match at least this share of what the best one does
REPEATED_WORDS = 8  # a run of so many words that comes a second time is a loop: 5 to 20
SHORTEST_REPEATED = 4  # words of a whole sentence that may not come twice: 3 to 7

_NUMBERS = r"[0-9]+(?:[ \t]*,[ \t]*[0-9]+)*"
_LABELS = re.compile(rf"\s?\[({_NUMBERS})\]")
_SENTENCE_END = re.compile(rf"(?<=[.!?])(?:\s*\[{_NUMBERS}\])*\s+|\n")
_MAY_BE_LABELS = re.compile(rf"(?:\s*\[{_NUMBERS}\])*\s*(?:\[[0-9, \t]*)?")
_CODE_SPAN = re.compile(r"(`[^`\n]*`)")
_LABELS_IN_CODE = re.compile(rf"(?<![\w)\]])\[({_NUMBERS})\]")  # unlike subscripts, after nothing that has elements
_CODE_WORD = re.compile(
    r"`([^`\n]+)`|\b([A-Za-z_]\w*(?:::~?\w+)+)"
    r"|\b([a-z]+[A-Z]\w*|[A-Z][a-z0-9]+[A-Z]\w*|[A-Z]{2,}[a-z]{2,}\w*|\w+_\w+)\b|\b([A-Za-z_]\w*)(?=\(\))"
)
_NAME = re.compile(r"\b[A-Za-z_]\w*")
_PLACE = r"(?:[\w.+~-]{1,100}/){0,30}[\w.+~-]{1,100}\.[A-Za-z]\w{0,7}:[0-9]{1,7}(?:-[0-9]{1,7})?"
_PLACES = re.compile(rf"\s?\[({_PLACE}(?:[ \t]*[,;][ \t]*{_PLACE}){{0,20}})\]|(?<![\w./+~-])({_PLACE})(?![\w/])")
_ONE_PLACE = re.compile(r"(.+):([0-9]+)(?:-([0-9]+))?")
# Words of the language itself (C++ standard, lex.key, and the directives of cpp.pre): they name nothing in a tree.
_LANGUAGE = frozenset(
    """alignas alignof asm auto bool break case catch char char16_t char32_t char8_t class co_await co_return co_yield
    concept const const_cast consteval constexpr constinit continue decltype default define defined delete do double
    dynamic_cast elif else endif enum error explicit export extern false final float for friend goto if ifdef ifndef
    import include inline int line long module mutable namespace new noexcept nullptr operator override pragma private
    protected public register reinterpret_cast requires return short signed sizeof static static_assert static_cast
    struct switch template this thread_local throw true try typedef typeid typename undef union unsigned using virtual
    void volatile wchar_t while""".split()
)
_IS_COMMENT = re.compile(r"^\s*(?://|/\*|\*(?!\w))")
_COMMENT_MARK = re.compile(r"^\s*(?://[/!]?<?|/\*[*!]?<?|\*(?!/))\s?|\s*\*+/\s*$")
_QUOTE_MARK = re.compile(r"^\s*>\s?")
_LICENCE = re.compile(
    r"\bcopyright\b|\(c\) \d{4}|\bSPDX-|\blicen[cs]ed? (?:under|file|terms)\b|\bgoverned by\b", re.IGNORECASE
)
_BREAK = re.compile(r"\W*$|\||#")  # blank lines, rules, tables, headings
_FENCE = re.compile(r"```|~~~|[\\@](?:end)?(?:code|verbatim)\b")
_SUMMARY_TAG = re.compile(r"[\\@](?:brief|short|details|note)\s+")
_APART = re.compile(r"[\\@](?!(?:[a-z]|ref|link)\b)[a-z]+\b|copyright\b|SPDX-", re.IGNORECASE)
_ITEM = re.compile(r"[-*+]\s+|\d+[.)]\s+")
_PROSE_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"(])")


@dataclass(slots=True)
class Verdict:
    """What became of a draft: ``text`` passed every check and cites ``used``; ``fault`` says why the rest did not."""

    text: str = ""
    used: set[int] = field(default_factory=set)
    fault: str = ""
    unknown_labels: set[str] = field(default_factory=set)  # as written
    places: dict[Span, int] = field(default_factory=dict)  # cited by path and line, with the labels they got

    @property
    def grounded(self) -> bool:
        """Whether the text may stand as the answer: it cites evidence and nothing in it had to be stopped."""
        return bool(self.used or self.places) and not self.fault


def nowhere(_path: str, _first: int, _last: int) -> Span | None:
    """For prompts whose lines are cited by label alone."""
    return None


def checked(
    pieces: Iterable[str],
    prompt: Prompt,
    question: str,
    known: Callable[[str], bool],
    verdict: Verdict,
    place: Callable[[str, int, int], Span | None] = nowhere,
) -> Iterator[str]:
    """Passes a stream of text on, sentence by sentence, as far as it stands the checks; fills in the verdict.

    ``known`` tells whether a name stands anywhere in the tree. ``place`` tells where lines that the prompt shows, by
    path and numbers, stand today: a citation of such lines gets a label of its own, one of others is taken out. Ends
    at the first fault: the caller closes the stream. How the text was cut into pieces makes no difference. An index in
    a code span, such as ``buffer[0]`` between backticks, is no label.
    """
    labels = {str(citation.label) for citation in prompt.citations}
    shown = "\n".join((question, *prompt.evidence, *(f"{c.span.path} {c.symbol}" for c in prompt.citations)))
    vocabulary = _LANGUAGE | set(_NAME.findall(shown))
    said: list[str] = []
    runs: set[tuple[str, ...]] = set()
    for sentence in _sentences(pieces):
        clean, used = _without_unknown_labels(sentence, labels, verdict.unknown_labels)
        named = clean
        if place is not nowhere:
            named = _PLACES.sub("", clean)
            clean = _with_labelled_places(clean, len(labels), place, verdict)
        verdict.fault = _invented_name(named, vocabulary, known) or _repetition(clean, said, runs)
        if verdict.fault:
            return
        verdict.used |= used
        verdict.text += clean
        yield clean


def _sentences(pieces: Iterable[str]) -> Iterator[str]:
    """Whole sentences, each with the labels behind it and its space, so that joining them gives the text again."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        # What follows an end decides whether it is one: as long as labels may follow, they belong to the sentence.
        while (end := _SENTENCE_END.search(waiting)) and not _MAY_BE_LABELS.fullmatch(waiting, end.end()):
            yield waiting[: end.end()]
            waiting = waiting[end.end() :]
    if waiting:
        yield waiting


def _without_unknown_labels(sentence: str, labels: set[str], unknown: set[str]) -> tuple[str, set[int]]:
    used: set[int] = set()

    def keep(match: re.Match[str]) -> str:
        numbers = re.findall(r"[0-9]+", match.group(1))
        good = [number for number in numbers if number in labels]
        used.update(map(int, good))
        unknown.update(number for number in numbers if number not in labels)
        return match.group() if good == numbers else f" [{', '.join(good)}]" if good else ""

    parts = _CODE_SPAN.split(sentence)  # spans at the odd places
    for place, part in enumerate(parts):
        form = _LABELS_IN_CODE if place % 2 else _LABELS
        parts[place] = _settled(partial(form.sub, keep), part)
    return "".join(parts), used


def _with_labelled_places(
    sentence: str, labels: int, place: Callable[[str, int, int], Span | None], verdict: Verdict
) -> str:
    """Each citation by path and lines with a label behind those of the evidence, or without what stands nowhere."""

    def label_of(written: str) -> tuple[int, Span] | None:
        path, first, last = _ONE_PLACE.fullmatch(written).groups()  # type: ignore[union-attr] # _PLACES made it
        span = place(path, int(first), int(last or first))
        if span is None:
            verdict.unknown_labels.add(written)
            return None
        return verdict.places.setdefault(span, labels + len(verdict.places) + 1), span

    def labelled(match: re.Match[str]) -> str:
        if match[2]:
            found = label_of(match[2])
            return f"{_written(found[1])} [{found[0]}]" if found else match[2].rpartition(":")[0]
        several = [found[0] for written in re.split(r"[ \t]*[,;][ \t]*", match[1]) if (found := label_of(written))]
        return f" [{', '.join(map(str, several))}]" if several else ""

    return _PLACES.sub(labelled, sentence)


def _written(span: Span) -> str:
    return str(span) if span.last_line > span.first_line else f"{span.path}:{span.first_line}"


def _settled(change: Callable[[str], str], text: str) -> str:
    """The text changed until it stays the same: taking a label out may join what stood around it to another."""
    while (changed := change(text)) != text:
        text = changed
    return text


def _invented_name(sentence: str, vocabulary: frozenset[str], known: Callable[[str], bool]) -> str:
    for match in _CODE_WORD.finditer(sentence):
        for name in _NAME.findall(next(group for group in match.groups() if group)):
            if name not in vocabulary and not known(name):
                return f"it names {name}, which stands nowhere in this tree"
    return ""


def _repetition(sentence: str, said: list[str], runs: set[tuple[str, ...]]) -> str:
    """Compares with all that was said before and adds the sentence to it; runs may reach over sentences."""
    fresh = re.findall(r"\w+", sentence.lower())
    first = max(0, len(said) - REPEATED_WORDS + 1)
    said += fresh
    new = [tuple(said[start : start + REPEATED_WORDS]) for start in range(first, len(said) - REPEATED_WORDS + 1)]
    if SHORTEST_REPEATED <= len(fresh) < REPEATED_WORDS:
        new.append(tuple(fresh))
    for run in new:
        if run in runs:
            return "it repeats itself"
        runs.add(run)
    return ""


@dataclass(frozen=True, slots=True)
class KeySentence:
    """A sentence out of a comment or document of the evidence, word for word."""

    label: int
    text: str


def key_sentences(
    prompt: Prompt, labels: Collection[int], weights: Sequence[tuple[str, float]], stems: Callable[[str], list[str]]
) -> list[KeySentence]:
    """The sentences of the labelled evidence that say most of what was asked, each what no other does; by label.

    Greedy cover of the question's stems by rarity (maximal marginal relevance without a similarity to tune).
    """
    worth = dict(weights)
    candidates = [
        (KeySentence(citation.label, sentence), worth.keys() & set(stems(sentence)))
        for citation, text in zip(prompt.citations, prompt.evidence, strict=True)
        if citation.label in labels
        for sentence in _prose(citation, text)
    ]
    chosen: list[KeySentence] = []
    said: set[str] = set()
    first = 0.0
    while len(chosen) < KEY_SENTENCES:
        scored = [(sum(worth[stem] for stem in sorted(held - said)), sentence) for sentence, held in candidates]
        score, best = max(scored, key=lambda pair: pair[0], default=(0.0, None))
        first = first or score
        if best is None or score <= NEW_SHARE * first or any(best.text == before.text for before in chosen):
            break
        chosen.append(best)
        said |= worth.keys() & set(stems(best.text))
    return sorted(chosen, key=lambda sentence: sentence.label)


def _prose(citation: Citation, text: str) -> list[str]:
    """The sentences of a chunk's comments, or of the whole text where it is a document."""
    lines = text.split("\n")
    if citation.span.path.endswith((".md", ".rst", ".txt", ".markdown")):
        told = [[_QUOTE_MARK.sub("", line).strip() for line in lines]]
    else:
        runs = [list(run) for is_comment, run in groupby(lines, _is_comment) if is_comment]
        told = [
            [_COMMENT_MARK.sub("", line).strip() for line in run] for run in runs if not _LICENCE.search("\n".join(run))
        ]
    paragraphs = [" ".join(paragraph) for run in told for paragraph in _paragraphs(run)]
    sentences = [sentence for paragraph in paragraphs for sentence in _PROSE_SENTENCE.split(paragraph)]
    # What ends in a colon announces the next sentence and says nothing alone.
    return [s for s in sentences if 3 < len(s.split()) <= LONGEST_SENTENCE and not s.endswith(":")]


def _is_comment(line: str) -> bool:
    return _IS_COMMENT.match(line) is not None


def _paragraphs(lines: Iterable[str]) -> list[list[str]]:
    """The lines of prose, grouped. Code, tables, rules and what follows a tag such as ``@param`` stand in none."""
    paragraphs: list[list[str]] = [[]]
    in_code = False
    for line in lines:
        plain = _SUMMARY_TAG.sub("", line, count=1)
        if _FENCE.match(plain):
            in_code = not in_code
            paragraphs.append([])
        elif in_code or _BREAK.match(plain):
            paragraphs.append([])
        elif _APART.match(plain) or _ITEM.match(plain) or plain != line:
            paragraphs.append([_ITEM.sub("", plain, count=1)])
        else:
            paragraphs[-1].append(plain)
    return [paragraph for paragraph in paragraphs if paragraph and not _APART.match(paragraph[0])]


@dataclass(frozen=True, slots=True)
class Quote:
    """Lines of the evidence that speak to the question. The citation names exactly these lines."""

    citation: Citation
    text: str


def quotes(prompt: Prompt, weights: Sequence[tuple[str, float]], stems: Callable[[str], list[str]]) -> list[Quote]:
    """The parts of the evidence nearest to the question, in the order of the evidence.

    ``weights`` holds the question's stems with their rarity; a window of lines is worth the sum over those it holds.
    """
    scored = [
        _best_window(citation, text, dict(weights), stems)
        for citation, text in zip(prompt.citations, prompt.evidence, strict=True)
    ]
    best = max((score for score, _ in scored), default=0.0)
    near = [(score, number) for number, (score, _) in enumerate(scored) if score >= QUOTE_SHARE * best]
    nearest = sorted(near, key=lambda pair: (-pair[0], pair[1]))[:QUOTES]
    return [scored[number][1] for number in sorted(number for _, number in nearest)]


def _best_window(
    citation: Citation, text: str, weights: dict[str, float], stems: Callable[[str], list[str]]
) -> tuple[float, Quote]:
    lines = text.split("\n")
    held = [weights.keys() & set(stems(line)) for line in lines]
    last_start = max(0, len(lines) - QUOTED_LINES)
    best_start, best_score = 0, -1.0
    for start in range(last_start + 1):
        score = sum(weights[stem] for stem in sorted(set().union(*held[start : start + QUOTED_LINES])))
        if score > best_score + 1e-9:
            best_start, best_score = start, score
    first, last = _trimmed(lines, best_start, min(len(lines), best_start + QUOTED_LINES))
    span = Span(citation.span.path, citation.span.first_line + first, citation.span.first_line + last - 1)
    return best_score, Quote(Citation(citation.label, span, citation.symbol), "\n".join(lines[first:last]))


def _trimmed(lines: Sequence[str], first: int, last: int) -> tuple[int, int]:
    while last - first > 1 and not lines[first].strip():
        first += 1
    while last - first > 1 and not lines[last - 1].strip():
        last -= 1
    return first, last
