"""Turns retrieved chunks into an answer: prompt, backend, checks, and the evidence itself where the checks fail.

Three ways: a model writes and is shown as far as it passes; a tiny model may only add to the quoted evidence, and only
when all of its text passes; without a model the quoted evidence is the answer. None of them invents anything.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from hub.errors import BackendError
from hub.grounding import KeySentence, Quote, Verdict, checked, key_sentences, quotes
from hub.model import (
    Backend,
    BackendInfo,
    Citation,
    Completion,
    Confidence,
    Event,
    Found,
    GenerationOptions,
    Piece,
    Prompt,
    Reading,
    Usage,
)
from hub.prompting import assemble, visible
from hub.retrieval import Retrieval


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What the index knows of words: the question's stems with their rarity, how to stem a text, what names exist."""

    weights: Sequence[tuple[str, float]]
    stems: Callable[[str], list[str]]
    stands: Callable[[str], bool]


@dataclass(slots=True)
class Written:
    """An answer as it grows: what was told, joined, is its text."""

    tell: Callable[[Event], None]
    text: str = ""
    citations: tuple[Citation, ...] = ()
    usage: Usage = field(default_factory=Usage)
    notes: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        if text:
            self.text += text
            self.tell(Piece(text))


def write(
    retrieval: Retrieval,
    confidence: Confidence,
    lexicon: Lexicon,
    backend: Backend,
    budget: int,
    options: GenerationOptions,
    tell: Callable[[Event], None],
) -> Written:
    """An answer from the best hits that fit ``budget`` tokens. A backend that fails leaves a note, never an error."""
    written = Written(tell)
    info = backend.info()
    question = retrieval.query.text
    prompt = assemble(question, retrieval.hits, budget, backend.count_tokens)
    tell(Found(prompt.citations, confidence))
    if prompt.dropped:
        written.notes.append(f"{len(prompt.dropped)} further hits did not fit the prompt of {prompt.tokens} tokens.")
    quoted = quotes(prompt, lexicon.weights, lexicon.stems)
    evidence = evidence_text(key_sentences(prompt, lexicon.weights, lexicon.stems), quoted)
    if not info.writes or info.evidence_first:
        written.add(evidence)
        written.citations = tuple(quote.citation for quote in quoted)
    if info.writes:
        verdict = _draft(backend, info, prompt, question, lexicon, options, written)
        if info.evidence_first:
            if verdict.grounded:
                written.add(f"\n\nIn the model's words: {verdict.text.strip()}")
        elif verdict.grounded:
            written.citations = tuple(c for c in prompt.citations if c.label in verdict.used)
        else:
            written.add(("\n\nThe evidence itself:\n\n" if written.text else "") + evidence)
            written.citations = tuple(quote.citation for quote in quoted)
    return written


def _draft(
    backend: Backend,
    info: BackendInfo,
    prompt: Prompt,
    question: str,
    lexicon: Lexicon,
    options: GenerationOptions,
    written: Written,
) -> Verdict:
    """Lets the model write until it ends or fails a check; tells each passed sentence unless evidence goes first."""
    verdict = Verdict()
    written.tell(Reading(info.name, info.model, prompt.tokens))
    try:
        with closing(_Pieces(backend.stream(prompt, options))) as pieces:
            for sentence in checked(pieces, prompt, question, lexicon.stands, verdict):
                if not info.evidence_first:
                    written.add(sentence)
            written.usage = pieces.usage
    except BackendError as error:
        verdict.faults.append(f"it broke off: {error.message}")
        written.notes.append(f"{error.message} {error.hint}".strip())
    if not verdict.used and not verdict.faults:
        verdict.faults.append("it cites no evidence")
    if verdict.unknown_labels:
        labels = ", ".join(f"[{label}]" for label in sorted(verdict.unknown_labels))
        written.notes.append(f"Removed citations that were not in the prompt: {labels}.")
    if verdict.faults:
        written.notes.append(f"The model's text was stopped, and the evidence quoted instead: {verdict.faults[0]}.")
    return verdict


class _Pieces:
    """The text of a backend's stream, keeping the usage that comes at its end. Closing it cancels the request."""

    def __init__(self, stream: Iterator[str | Completion]) -> None:
        self._stream = stream
        self.usage = Usage()

    def __iter__(self) -> Iterator[str]:
        for item in self._stream:
            if isinstance(item, Completion):
                self.usage = item.usage
            else:
                yield item

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close:
            close()


def evidence_text(sentences: Sequence[KeySentence], quoted: Sequence[Quote]) -> str:
    """What the code base itself says: sentences of its comments, then the quotes with the lines they come from."""
    shown = {quote.citation.label for quote in quoted}
    said = [f"{visible(sentence.text)} [{sentence.label}]" for sentence in sentences if sentence.label in shown]
    blocks = ["\n".join(said)] if said else []
    for quote in quoted:
        citation = quote.citation
        name = f" — {citation.symbol}" if citation.symbol else ""
        body = "\n".join(f"    {line}".rstrip() for line in visible(quote.text).split("\n"))
        blocks.append(f"[{citation.label}] {citation.span}{name}\n{body}")
    return "\n\n".join(blocks)
