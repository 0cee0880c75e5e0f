"""Checks what a model writes against the evidence it was given, and quotes the evidence itself where that fails.

A sentence is shown only when it has passed: labels that were not in the prompt are taken out, names that stand nowhere
and repetitions end the answer. Knows nothing of models; everything here is text in, text and reasons out.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

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

_LABELS = re.compile(r"\s?\[(\d+(?:\s*,\s*\d+)*)\]")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?:\s*\[\d+(?:\s*,\s*\d+)*\])*\s+|\n")
_CODE_WORD = re.compile(
    r"`([^`\n]+)`|\b([A-Za-z_]\w*(?:::~?\w+)+)|\b([a-z]+[A-Z]\w*|[A-Z][a-z0-9]+[A-Z]\w*|\w+_\w+)\b|\b([A-Za-z_]\w*)(?=\(\))"
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_COMMENT_MARK = re.compile(r"^\s*(?:///?<?!?|/\*\*?!?|\*/?|//!|#+(?=\s)|>)\s?|\s*\*/\s*$")
_IS_COMMENT = re.compile(r"^\s*(?://|/\*|\*(?!\w))")
_MARKUP = re.compile(
    r"^\s*(?:SPDX-|[\\@](?:file|param|return|brief|tparam|throws)\b|Copyright\b|```|\|)", re.IGNORECASE
)
_ITEM = re.compile(r"[-*+]\s+|\d+[.)]\s+")
_PROSE_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"(])")


@dataclass(slots=True)
class Verdict:
    """What became of a draft. ``text`` passed every check; ``faults`` says why the rest did not."""

    text: str = ""
    used: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    unknown_labels: set[int] = field(default_factory=set)

    @property
    def grounded(self) -> bool:
        """Whether the text may stand as the answer: it cites evidence and nothing in it had to be stopped."""
        return bool(self.used) and not self.faults


def checked(
    pieces: Iterable[str], prompt: Prompt, question: str, known: Callable[[str], bool], verdict: Verdict
) -> Iterator[str]:
    """Passes a stream of text on, sentence by sentence, as far as it stands the checks; fills in the verdict.

    ``known`` tells whether a name stands anywhere in the tree. Ends at the first fault: the caller closes the stream.
    """
    labels = {citation.label for citation in prompt.citations}
    shown = "\n".join((question, *prompt.evidence, *(f"{c.span.path} {c.symbol}" for c in prompt.citations)))
    vocabulary = set(_NAME.findall(shown))
    seen: set[tuple[str, ...]] = set()
    for sentence in _sentences(pieces):
        clean = _without_unknown_labels(sentence, labels, verdict)
        fault = _invented_name(clean, vocabulary, known) or _repetition(clean, seen)
        if fault:
            verdict.faults.append(fault)
            return
        verdict.text += clean
        yield clean


def _sentences(pieces: Iterable[str]) -> Iterator[str]:
    """Whole sentences, each with the labels behind it and its space, so that joining them gives the text again."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        while True:
            end = next((m.end() for m in _SENTENCE_END.finditer(waiting) if m.end() < len(waiting)), None)
            if end is None:
                break
            yield waiting[:end]
            waiting = waiting[end:]
    if waiting:
        yield waiting


def _without_unknown_labels(sentence: str, labels: set[int], verdict: Verdict) -> str:
    def keep(match: re.Match[str]) -> str:
        numbers = [int(number) for number in re.findall(r"\d+", match.group(1))]
        good = [number for number in numbers if number in labels]
        verdict.used.update(good)
        verdict.unknown_labels.update(number for number in numbers if number not in labels)
        return match.group() if good == numbers else f" [{', '.join(map(str, good))}]" if good else ""

    return _LABELS.sub(keep, sentence)


def _invented_name(sentence: str, vocabulary: set[str], known: Callable[[str], bool]) -> str | None:
    for match in _CODE_WORD.finditer(sentence):
        for name in _NAME.findall(next(group for group in match.groups() if group)):
            if name not in vocabulary and not known(name):
                return f"it names {name}, which stands nowhere in this tree"
            vocabulary.add(name)
    return None


def _repetition(sentence: str, seen: set[tuple[str, ...]]) -> str | None:
    said = re.findall(r"\w+", sentence.lower())
    runs = [tuple(said[start : start + REPEATED_WORDS]) for start in range(len(said) - REPEATED_WORDS + 1)]
    for run in runs or ([tuple(said)] if len(said) > 3 else []):
        if run in seen:
            return "it repeats itself"
        seen.add(run)
    return None


@dataclass(frozen=True, slots=True)
class KeySentence:
    """A sentence out of a comment or document of the evidence, word for word."""

    label: int
    text: str


def key_sentences(
    prompt: Prompt, weights: Sequence[tuple[str, float]], stems: Callable[[str], list[str]]
) -> list[KeySentence]:
    """The sentences that say most of what was asked, best first, each one something that those before did not.

    Greedy cover of the question's stems by rarity (maximal marginal relevance without a similarity to tune).
    """
    worth = dict(weights)
    candidates = [
        (KeySentence(citation.label, sentence), worth.keys() & set(stems(sentence)))
        for citation, text in zip(prompt.citations, prompt.evidence, strict=True)
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
    document = citation.span.path.endswith((".md", ".rst", ".txt", ".markdown"))
    paragraphs: list[list[str]] = [[]]
    for line in text.split("\n"):
        plain = _COMMENT_MARK.sub("", line).strip()
        if not plain or _MARKUP.match(plain) or not (document or _IS_COMMENT.match(line)):
            paragraphs.append([])
        else:
            if _ITEM.match(plain) or (document and line.startswith("#")):
                paragraphs.append([])
            paragraphs[-1].append(_ITEM.sub("", plain))
    sentences = [sentence for lines in paragraphs for sentence in _PROSE_SENTENCE.split(" ".join(lines))]
    return [sentence for sentence in sentences if 3 < len(sentence.split()) <= LONGEST_SENTENCE]


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
    chosen = [quote for score, quote in scored if score >= QUOTE_SHARE * best]
    return chosen[:QUOTES]


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
