"""Checks what a model writes against the evidence it was given, and quotes the evidence itself where that fails.

A sentence is shown only when it has passed: labels that were not in the prompt are taken out, names that stand nowhere
and repetitions end the answer. Knows nothing of models; everything here is text in, text and reasons out.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from hub.claims.names import CODE_WORD, LANGUAGE, NAME, cut_off
from hub.model import Citation, Prompt
from indexer.model import Span
from indexer.patterns import later

# Constants of the checks and of quoting, each with its range. Judgements, checked by the cases in tests/test_grounding.
QUOTED_LINES = 12  # lines of a quote: 6 to 40
KEY_SENTENCES = 3  # sentences of comments and documents put before the quotes: 1 to 6
LONGEST_SENTENCE = 60  # words; what is longer is a table or a list that lost its line ends
NEW_SHARE = 0.25  # 0 to 1; a further sentence must say so much of what the best one says, in words not said yet
QUOTES = 3  # pieces of evidence quoted: 1 to 8
QUOTE_SHARE = 0.45  # 0 to 1; a further quote must match at least this share of what the best one does
REPEATED_WORDS = 8  # a run of so many words that comes a second time is a loop: 5 to 20
# Characters. A text without an end is checked after so many, since a loop may never come to one. 400 to 4,000.
LONGEST_WAITING = 1_000
LONGEST_WORD = 8_000  # characters without a blank, likewise: 4,000 to 32,000
SHORTEST_REPEATED = 4  # words of a whole sentence that may not come twice: 3 to 7

_NUMBERS = r"[0-9]+(?:[ \t]*,[ \t]*[0-9]+)*"
_LABELS = later(rf"\s?\[({_NUMBERS})\]")
# A mark of a prompt's piece, such as F3:120-158, and what a model makes of it: inner lines, one line, the file alone.
_LINES = r"L?[0-9]{1,7}(?:[ \t]{0,2}[-\u2013][ \t]{0,2}L?[0-9]{1,7})?"
_MARK = rf"F[0-9]{{1,5}}(?::[ \t]?{_LINES})?"
_MARKS = rf"{_MARK}(?:[ \t]{{0,2}}[,;][ \t]{{0,2}}(?:{_MARK}|{_LINES})){{0,20}}"
_IN_BRACKETS = rf"\[(?:{_NUMBERS}|{_MARKS})\]"
_SENTENCE_END = later(rf"(?<=[.!?])(?:\s*{_IN_BRACKETS})*\s+|\n")
_BLANK = later(r" (?!\[)")  # not what stands between a text and its label
_MAY_BE_LABELS = later(rf"(?:\s*{_IN_BRACKETS})*\s*(?:\[(?:[0-9, \t]*|F[FL0-9:,; \t\u2013-]{{0,900}}))?")
_MARKED_LABELS = later(rf"(?:\s|(?<![\w)]))\[({_NUMBERS})\]")  # where evidence has marks, a[1] is a subscript
_COLON_WITHIN = r"(?=[^\])`\n]{0,900}:)"
_MARKED = later(
    rf"\s?\[{_COLON_WITHIN}({_MARKS})\]|\s?(?<![\w)])\[({_MARKS})\](?!\()"
    rf"|\s?\({_COLON_WITHIN}({_MARKS})\)|\s?(?<![\w/.:`-])(F[0-9]{{1,5}}:{_LINES})(?![\w/:])"
)
_MARKED_IN_CODE = later(rf"\[{_COLON_WITHIN}({_MARKS})\]")
_ALL_MARKS = later(rf"`\[?{_COLON_WITHIN}({_MARKS})\]?`")  # a code span of nothing else
_ONE_MARK = later(r"(?:(F[0-9]+):?[ \t]?)?(?:L?([0-9]+)(?:[ \t]*[-\u2013][ \t]*L?([0-9]+))?)?")
_OURS = "\x01"  # stands before a label that was given here, so that no label of the model's passes for one
_CODE_SPAN = later(r"(`[^`\n]*`)")
_LABELS_IN_CODE = later(rf"(?<![\w)\]])\[({_NUMBERS})\]")  # unlike subscripts, after nothing that has elements
_PLACE = r"(?:[\w.+~-]{1,100}/){0,30}[\w.+~-]{1,100}\.[A-Za-z]\w{0,7}:[0-9]{1,7}(?:-[0-9]{1,7})?"
_PLACES = later(rf"\s?\[({_PLACE}(?:[ \t]*[,;][ \t]*{_PLACE}){{0,20}})\]|(?<![\w./+~-])({_PLACE})(?![\w/])")
_ONE_PLACE = later(r"(.+):([0-9]+)(?:-([0-9]+))?")
_IS_COMMENT = later(r"^\s*(?://|/\*|\*(?!\w))")
_COMMENT_MARK = later(r"^\s*(?://[/!]?<?|/\*[*!]?<?|\*(?!/))\s?|\s*\*+/\s*$")
_QUOTE_MARK = later(r"^\s*>\s?")
_LICENCE = later(
    r"\bcopyright\b|\(c\) \d{4}|\bSPDX-|\blicen[cs]ed? (?:under|file|terms)\b|\bgoverned by\b", re.IGNORECASE
)
_BREAK = later(r"\W*$|\||#")  # blank lines, rules, tables, headings
_FENCE = later(r"```|~~~|[\\@](?:end)?(?:code|verbatim)\b")
_SUMMARY_TAG = later(r"[\\@](?:brief|short|details|note)\s+")
_APART = later(r"[\\@](?!(?:[a-z]|ref|link)\b)[a-z]+\b|copyright\b|SPDX-", re.IGNORECASE)
_ITEM = later(r"[-*+]\s+|\d+[.)]\s+")
_PROSE_SENTENCE = later(r"(?<=[.!?])\s+(?=[A-Z`\"(])")


@dataclass(slots=True)
class Verdict:
    """What became of a draft: ``text`` passed every check and cites ``used``; ``fault`` says why the rest did not."""

    text: str = ""
    used: set[int] = field(default_factory=set)
    fault: str = ""
    unknown_labels: set[str] = field(default_factory=set)  # as written
    places: dict[Span, int] = field(default_factory=dict)  # cited by path and line, with the labels they got
    draft: str = ""  # the text and the sentence that did not pass, if one did not

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
    shown = "\n".join((question, *prompt.evidence, *(f"{c.span.path} {c.symbol}" for c in prompt.citations)))
    citing = _Citing(prompt, place, verdict, shown)
    vocabulary = LANGUAGE | set(NAME.findall(shown)) | citing.files
    said: list[str] = []
    runs: set[tuple[str, ...]] = set()
    for sentence in _sentences(pieces):
        clean, named = citing.labelled(sentence)
        verdict.draft = verdict.text + clean
        verdict.fault = _invented_name(named, vocabulary, known) or _repetition(clean, said, runs)
        if verdict.fault:
            return
        citing.keep()
        verdict.text += clean
        yield clean


def _sentences(pieces: Iterable[str]) -> Iterator[str]:
    """Whole sentences, each with the labels behind it and its space, so that joining them gives the text again."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        while length := _sentence_length(waiting):
            yield waiting[:length]
            waiting = waiting[length:]
    if waiting:
        yield waiting


class _Citing:
    """Turns what a model cites, by label, by mark or by path and lines, into labels; takes out what was not shown.

    Whole pieces keep their own label; other lines get one behind those of the evidence, each stretch of lines its own.
    """

    def __init__(
        self, prompt: Prompt, place: Callable[[str, int, int], Span | None], verdict: Verdict, shown: str
    ) -> None:
        self._labels = {str(citation.label) for citation in prompt.citations}
        self._verdict = verdict
        self._shown = shown
        self._whole = {citation.span: citation.label for citation in reversed(prompt.citations)} if prompt.marks else {}
        self._paths: dict[str, str] = {}
        self._of_file: dict[str, list[int]] = {}
        for mark, citation in zip(prompt.marks, prompt.citations, strict=False):
            name = mark.partition(":")[0]
            self._paths[name] = citation.span.path
            self._of_file.setdefault(name, []).append(citation.label)
        self._stretches = _stretches(citation.span for citation in prompt.citations) if prompt.marks else {}
        self._place = self._place_shown if prompt.marks and place is nowhere else place
        self._places = self._place is not nowhere
        self._number = _MARKED_LABELS if prompt.marks else _LABELS
        self._used: set[int] = set()
        self._fresh: dict[Span, int] = {}

    @property
    def files(self) -> frozenset[str]:
        """What the prompt calls its files."""
        return frozenset(self._paths)

    def labelled(self, sentence: str) -> tuple[str, str]:
        """The sentence with labels, and the same without paths, to look for names in."""
        self._used, self._fresh = set(), {}
        text = sentence.replace(_OURS, "")
        if self._paths:
            text = _ALL_MARKS.sub(r"[\1]", text)
        text = _settled(self._without_unknown, text)
        named = text
        if self._places:
            named = _PLACES.sub("0", text)  # not "": that would pair the backticks around it with others
            text = _settled(self._without_unknown, _PLACES.sub(self._from_place, text))
        return text.replace(_OURS, ""), named.replace(_OURS, "")

    def keep(self) -> None:
        """Counts the last sentence's citations as cited."""
        self._verdict.used |= self._used
        self._verdict.places |= self._fresh

    def _without_unknown(self, text: str) -> str:
        parts = _CODE_SPAN.split(text)  # spans at the odd places
        for place, part in enumerate(parts):
            in_code = bool(place % 2)
            if self._paths:
                part = (_MARKED_IN_CODE if in_code else _MARKED).sub(self._from_marks, part)  # noqa: PLW2901 - in steps
            parts[place] = _settled(
                partial((_LABELS_IN_CODE if in_code else self._number).sub, self._from_numbers), part
            )
        return "".join(parts)

    def _from_numbers(self, match: re.Match[str]) -> str:
        numbers = re.findall(r"[0-9]+", match.group(1))
        good = [number for number in numbers if number in self._labels]
        self._used.update(map(int, good))
        self._verdict.unknown_labels.update(number for number in numbers if number not in self._labels)
        return match.group() if good == numbers else f" [{', '.join(good)}]" if good else ""

    def _from_marks(self, match: re.Match[str]) -> str:
        listed = next(group for group in match.groups() if group)
        labels: dict[int, None] = {}
        name = ""
        for written in re.split(r"[ \t]*[,;][ \t]*", listed):
            file, first, last = _ONE_MARK.fullmatch(written).groups()  # type: ignore[union-attr] # _MARKS made it
            name = file or name
            found = self._marked(name, int(first), int(last or first)) if first else self._of_file.get(name, [])
            if not found:
                self._verdict.unknown_labels.add(written if file else f"{name}:{written}")
            self._used |= set(found) & set(self._of_file.get(name, ()))
            labels.update(dict.fromkeys(found))
        if not labels:
            return ""
        before = match.string[match.start() - 1 : match.start()]
        lead = match.group()[0] if match.group()[0].isspace() else " " if before and before not in "([]\n " else ""
        return f"{lead}[{', '.join(f'{_OURS}{label}' for label in labels)}]"

    def _marked(self, name: str, first: int, last: int) -> list[int]:
        path = self._paths.get(name)
        span = self._place_shown(path, first, last) if path is not None else None
        return [self._label_of(span)] if span is not None else []

    def _place_shown(self, path: str, first: int, last: int) -> Span | None:
        """These lines, where the evidence shows all of them. The end of a path is enough where it names one file."""
        if path not in self._stretches:
            found = [known for known in self._stretches if known.endswith(f"/{path}")]
            if len(found) != 1:
                return None
            path = found[0]
        held = any(low <= first <= last <= high for low, high in self._stretches[path])
        return Span(path, first, last) if held else None

    def _label_of(self, span: Span) -> int:
        whole = self._whole.get(span)
        if whole is not None:
            self._used.add(whole)
            return whole
        label = self._verdict.places.get(span) or len(self._labels) + len(self._verdict.places) + len(self._fresh) + 1
        return label if span in self._verdict.places else self._fresh.setdefault(span, label)

    def _from_place(self, match: re.Match[str]) -> str:
        if match[2]:
            if self._paths and match[2] in self._shown:
                return match.group()  # not cited: the question or the evidence says it
            found = self._placed(match[2])
            return f"{_written(found[1])} [{_OURS}{found[0]}]" if found else match[2].rpartition(":")[0]
        several = [found[0] for written in re.split(r"[ \t]*[,;][ \t]*", match[1]) if (found := self._placed(written))]
        return f" [{', '.join(f'{_OURS}{label}' for label in several)}]" if several else ""

    def _placed(self, written: str) -> tuple[int, Span] | None:
        path, first, last = _ONE_PLACE.fullmatch(written).groups()  # type: ignore[union-attr] # _PLACES made it
        span = self._place(path, int(first), int(last or first))
        if span is None:
            self._verdict.unknown_labels.add(written)
            return None
        return self._label_of(span), span


def _sentence_length(text: str) -> int:
    """Of the first sentence of a text whose end may be still to come; 0 where its own end is."""
    # What follows an end decides whether it is one: as long as labels may follow, they belong to the sentence.
    view = text[: LONGEST_WAITING + 1]
    end = _SENTENCE_END.search(view)
    if end and not _MAY_BE_LABELS.fullmatch(view, end.end()):
        return end.end()
    if len(text) <= LONGEST_WAITING:
        return 0
    blanks = [blank.end() for blank in _BLANK.finditer(view) if blank.end() <= LONGEST_WAITING]
    return blanks[-1] if blanks else LONGEST_WORD if len(text) > LONGEST_WORD else 0


def _stretches(spans: Iterable[Span]) -> dict[str, list[tuple[int, int]]]:
    """The lines of each path, neighbouring and overlapping spans joined."""
    found: dict[str, list[tuple[int, int]]] = {}
    for span in sorted(spans):
        listed = found.setdefault(span.path, [])
        if listed and span.first_line <= listed[-1][1] + 1:
            listed[-1] = (listed[-1][0], max(listed[-1][1], span.last_line))
        else:
            listed.append((span.first_line, span.last_line))
    return found


def _written(span: Span) -> str:
    return str(span) if span.last_line > span.first_line else f"{span.path}:{span.first_line}"


def _settled(change: Callable[[str], str], text: str) -> str:
    """The text changed until it stays the same: taking a label out may join what stood around it to another."""
    while (changed := change(text)) != text:
        text = changed
    return text


def _invented_name(sentence: str, vocabulary: frozenset[str], known: Callable[[str], bool]) -> str:
    for match in CODE_WORD.finditer(sentence):
        for name in NAME.findall(next(group for group in match.groups() if group)):
            if name not in vocabulary and not known(name) and not cut_off(name, sentence, vocabulary):
                return f"it names {name}, which stands nowhere in this tree"
    return ""


def _repetition(sentence: str, said: list[str], runs: set[tuple[str, ...]]) -> str:
    """Compares with all that was said before and adds the sentence to it; runs may reach over sentences."""
    if len(sentence) >= LONGEST_WORD:
        return "it comes to no end"
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
