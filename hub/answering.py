"""Turns a prompt into an answer: backend, checks, and the evidence itself where the checks fail.

Three ways: a model writes and is shown as far as it passes; a tiny model may only add to the quoted evidence, and only
when all of its text passes; without a model the quoted evidence is the answer. None of them invents anything. Knows
nothing of how the evidence was found.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from hub.claims import NOTHING_KNOWN, Checks, Known, check
from hub.confidence.answers import ALTERNATIVES, Signals, signals
from hub.errors import BackendError, UnsupportedRequest
from hub.grounding import KeySentence, Quote, Verdict, checked, key_sentences, nowhere, quotes
from hub.model import (
    Backend,
    BackendInfo,
    Citation,
    Completion,
    Event,
    GenerationOptions,
    Piece,
    Prompt,
    Reading,
    Streamed,
    Usage,
)
from hub.prompting import ask_one_sentence, heading, visible
from indexer.model import Span

ONE_SENTENCE_TOKENS = 80  # of an answer that may only follow the evidence: 40 to 200
LONGEST_LINE = 200  # characters of a quoted line that are shown: 120 to 1,000


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What the index knows of words: the question's stems with their rarity, how to stem a text, what names exist.

    ``place`` tells where lines that are cited by path and number stand today, where the prompt shows whole files.
    ``known`` answers what a text asserts of the code.
    """

    weights: Sequence[tuple[str, float]]
    stems: Callable[[str], list[str]]
    stands: Callable[[str], bool]
    place: Callable[[str, int, int], Span | None] = nowhere
    known: Known = NOTHING_KNOWN


@dataclass(slots=True)
class Written:
    """An answer as it grows: what was told, joined, is its text.

    ``checks`` and ``signals`` are of what the model wrote, shown or not; without a text of a model they are empty.
    """

    tell: Callable[[Event], None]
    text: str = ""
    citations: tuple[Citation, ...] = ()
    usage: Usage = field(default_factory=Usage)
    notes: list[str] = field(default_factory=list)
    checks: Checks = field(default_factory=Checks)
    signals: Signals = field(default_factory=Signals)
    completion: Completion = field(default_factory=lambda: Completion("", Usage()))
    broke: bool = False  # whether the engine failed before the text's end

    def add(self, text: str) -> None:
        if text:
            self.text += text
            self.tell(Piece(text))


def write(
    question: str,
    prompt: Prompt,
    lexicon: Lexicon,
    backend: Backend,
    info: BackendInfo,
    options: GenerationOptions,
    tell: Callable[[Event], None],
) -> Written:
    """An answer from a prompt that holds evidence. A backend that fails leaves a note, never an error."""
    written = Written(tell)
    quoted: list[Quote] = []
    if info.evidence_first or not info.writes:
        quoted = quotes(prompt, lexicon.weights, lexicon.stems)
        written.add(_quoting(prompt, quoted, lexicon))
    asked = quoted[0] if info.evidence_first and quoted else None
    verdict = _draft(question, prompt, asked, lexicon, backend, info, options, written) if info.writes else Verdict()
    if verdict.draft.strip() and (verdict.grounded or not info.evidence_first):
        _look_up(question, prompt, lexicon.known, verdict, written)
    if info.evidence_first:
        if verdict.grounded:
            written.add(f"\n\nIn the model's words: {verdict.text.strip()}")
        else:
            verdict.used.clear()
            verdict.places.clear()
    elif info.writes and not verdict.grounded:
        quoted = quotes(prompt, lexicon.weights, lexicon.stems)
        evidence = _quoting(prompt, quoted, lexicon)
        written.add(("\n\nThe evidence itself:\n\n" if written.text else "") + evidence)
    written.citations = (*_citations(prompt, verdict.used, quoted), *_placed(verdict))
    return written


def _quoting(prompt: Prompt, quoted: Sequence[Quote], lexicon: Lexicon) -> str:
    """What the evidence itself says, around its quotes."""
    labels = {quote.citation.label for quote in quoted}
    return evidence_text(key_sentences(prompt, labels, lexicon.weights, lexicon.stems), quoted)


def _look_up(question: str, prompt: Prompt, known: Known, verdict: Verdict, written: Written) -> None:
    """What the text asserts and what its model betrayed, of all that was read of it."""
    cited = (*_citations(prompt, verdict.used, ()), *_placed(verdict))
    evidence = tuple(zip(prompt.citations, prompt.evidence, strict=True))
    written.checks = check(known, question, verdict.draft, cited, evidence, sorted(verdict.unknown_labels))
    written.signals = signals(question, verdict.draft, written.completion, verdict.fault)


def _placed(verdict: Verdict) -> tuple[Citation, ...]:
    return tuple(Citation(label, span) for span, label in verdict.places.items())


def _draft(
    question: str,
    prompt: Prompt,
    only: Quote | None,
    lexicon: Lexicon,
    backend: Backend,
    info: BackendInfo,
    options: GenerationOptions,
    written: Written,
) -> Verdict:
    """Lets the model write until it ends or fails a check; tells each passed sentence unless evidence goes first.

    ``only`` is the one quote that a tiny model is asked about, instead of the prompt.
    """
    verdict = Verdict()
    try:
        if only:
            prompt = ask_one_sentence(question, only.citation, _shown(only.text), backend.count_tokens)
            options = replace(options, max_tokens=min(options.max_tokens, ONE_SENTENCE_TOKENS))
        written.tell(Reading(info.name, info.model, prompt.tokens))
        with closing(_Pieces(_stream(backend, prompt, options), written.tell)) as pieces:
            space = ""  # told with the sentence behind it, so that no text ends with it
            for sentence in checked(pieces, prompt, question, lexicon.stands, verdict, lexicon.place):
                if not info.evidence_first:
                    written.add(f"{space}{sentence.rstrip()}")
                    space = sentence[len(sentence.rstrip()) :]
            written.completion, written.usage = pieces.end, pieces.end.usage
            if pieces.end.finish == "length":
                written.notes.append(f"The model's text ends at the limit of {options.max_tokens} tokens.")
    except BackendError as error:
        verdict.fault = "it broke off"
        written.broke = True
        written.notes.append(f"{error.message} {error.hint}".strip())
    if verdict.unknown_labels:
        labels = ", ".join(f"[{label}]" for label in sorted(verdict.unknown_labels, key=lambda n: (len(n), n)))
        written.notes.append(f"Removed citations that were not in the prompt: {labels}.")
    if not verdict.grounded:
        reason = verdict.fault or "it cites no evidence"
        fate = "is left out" if info.evidence_first else "cannot be relied on, hence the evidence quoted instead"
        written.notes.append(f"The model's text {fate}: {reason}.")
    return verdict


def _stream(backend: Backend, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
    """What the backend writes, with the probabilities of its tokens where it tells them: no answer fails for them."""
    if options.logprobs is None and backend.capabilities().logprobs:
        try:
            # ``yield from`` passes closing on, which cancels the request.
            yield from backend.stream(prompt, replace(options, logprobs=ALTERNATIVES, needs_logprobs=False))
        except UnsupportedRequest:
            # Nothing was written: such a request is refused as a whole.
            yield from backend.stream(prompt, options)
        return
    yield from backend.stream(prompt, options)


def _citations(prompt: Prompt, cited: set[int], quoted: Sequence[Quote]) -> tuple[Citation, ...]:
    """What the labels in a text stand for: the lines of a quote where it is quoted, else the lines in the prompt."""
    by_label = {citation.label: citation for citation in prompt.citations if citation.label in cited}
    by_label |= {quote.citation.label: quote.citation for quote in quoted}
    return tuple(by_label[label] for label in sorted(by_label))


class _Pieces:
    """The text of a backend's stream, keeping the completion at its end and telling how far the prompt is read.

    Closing it cancels the request.
    """

    def __init__(self, stream: Iterator[Streamed], tell: Callable[[Event], None]) -> None:
        self._stream = stream
        self._tell = tell
        self.end = Completion("", Usage())

    def __iter__(self) -> Iterator[str]:
        for item in self._stream:
            if isinstance(item, Completion):
                self.end = item
            elif isinstance(item, str):
                yield item
            else:
                # All that is known of the prompt when the answer is stopped before its end.
                self.end = replace(self.end, usage=Usage(item.total, 0, item.cached))
                self._tell(item)

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close:
            close()


def evidence_text(sentences: Sequence[KeySentence], quoted: Sequence[Quote]) -> str:
    """What the code base itself says: sentences of its comments, then the quotes with the lines they come from."""
    said = [f"{visible(sentence.text)} [{sentence.label}]" for sentence in sentences]
    blocks = ["\n".join(said)] if said else []
    for quote in quoted:
        body = "\n".join(f"    {line}".rstrip() for line in _shown(quote.text).split("\n"))
        blocks.append(f"[{quote.citation.label}] {heading(quote.citation, ' — ')}\n{body}")
    return "\n\n".join(blocks)


def _shown(text: str) -> str:
    """The text visible, with lines that are too long to read ended by a mark."""
    lines = visible(text).split("\n")
    return "\n".join(line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..." for line in lines)
