"""The values of questions and answers. Plain and frozen; labels of citations start at 1, in the order of the prompt."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from indexer.model import Chunk, Span, Stamp


class Tier(StrEnum):
    """How much was read to answer, cheapest first."""

    EXACT = "exact"  # answered from the tables
    RAG = "rag"  # a moderate prompt of retrieved chunks
    WIDE = "wide"  # a larger one, with the graph and a second round of questions
    FOCUS = "focus"  # the signatures of the whole code base, and the bodies of the best files
    FULL = "full"  # the code base itself, as much of it as the window holds
    ANALYSIS = "analysis"  # all of it, part after part
    NONE = "none"  # declined


class Policy(StrEnum):
    """What a better answer is worth against waiting for it."""

    FAST = "fast"
    BALANCED = "balanced"
    EXHAUSTIVE = "exhaustive"


class Breadth(StrEnum):
    """How much of a code base a question is about."""

    POINT = "point"  # one place
    RELATION = "relation"  # what stands in a relation to one thing: callers, overriders, users
    GLOBAL = "global"  # much or all of it: its structure, every place where something is done


class Rendering(StrEnum):
    """How much of a piece of evidence is shown."""

    BODY = "body"
    SIGNATURE = "signature"  # with what its comment says
    NAME = "name"


class SignalSource(StrEnum):
    """An arm of retrieval."""

    SYMBOL = "symbol"
    LEXICAL = "lexical"
    STATIC = "static"  # static vectors, there as soon as a tree is indexed
    VECTOR = "vector"  # vectors of an encoder that reads whole sentences
    HISTORY = "history"
    GRAPH = "graph"
    PLACE = "place"  # lines that a pasted trace or message names


class QuestionKind(StrEnum):
    """What a question looks like, as far as it decides what the arms count."""

    NAME = "name"  # one name and nothing else
    MIXED = "mixed"  # names within prose
    PROSE = "prose"
    CHANGE = "change"  # reads like the message of a commit
    PASTE = "paste"  # a stack trace, a compiler's error, a log


class PasteKind(StrEnum):
    """What was pasted into a question."""

    TRACE = "trace"  # a stack as a debugger or a crash handler prints it
    SANITIZER = "sanitizer"  # a report of a sanitizer or of valgrind
    COMPILER = "compiler"
    LINKER = "linker"
    TEST = "test"  # a test that failed, or its name
    ASSERTION = "assertion"
    LOG = "log"
    MANGLED = "mangled"  # a name as the linker knows it
    PLACE = "place"  # a file and line, maybe within prose


@dataclass(frozen=True, slots=True)
class Frame:
    """One place that a paste names. At least one of path and symbol is known."""

    path: str  # as pasted, with forward slashes; "" where only the function is known
    line: int  # from 1; 0 where it is unknown
    symbol: str  # qualified, without template arguments and parameters; "" where it is unknown


@dataclass(frozen=True, slots=True)
class Paste:
    """What a pasted text says, without what belongs to the system and the standard library."""

    kind: PasteKind
    frames: tuple[Frame, ...]  # those to look at first come first: the error's own, from the innermost outwards
    names: tuple[str, ...]  # of symbols, likewise
    prose: str  # what was written around it, without numbers, addresses and paths
    wording: str  # what to search for by words: the prose, the words of its messages, and its first names
    said: tuple[str, ...] = ()  # words of messages that the program itself has written


@dataclass(frozen=True, slots=True)
class Query:
    """A question as asked, and what was read out of it."""

    text: str
    terms: tuple[str, ...]  # words for the lexical arm, identifiers split and whole, in order, no repeats
    identifiers: tuple[str, ...]  # words that can only be code: Foo::bar, snake_case, CamelCase, quoted
    mentions_tests: bool = False
    kind: QuestionKind = QuestionKind.PROSE
    paste: Paste | None = None

    @property
    def wording(self) -> str:
        """What the arms that compare words and meanings ask for."""
        return self.paste.wording if self.paste else self.text


@dataclass(frozen=True, slots=True)
class Signal:
    """One arm's opinion of a chunk: its rank there (from 1) and the arm's own number."""

    source: SignalSource
    rank: int
    raw: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk with its score, and the arithmetic behind it: ``score`` is the sum over ``contributions``."""

    chunk: Chunk
    score: float
    signals: tuple[Signal, ...]
    contributions: tuple[tuple[str, float], ...] = ()
    symbol_name: str = ""
    symbol_kind: str = ""


@dataclass(frozen=True, slots=True)
class Understood:
    """How a question was read, and what its kind makes the parts of a score count."""

    kind: QuestionKind
    words: tuple[tuple[str, float], ...]  # asked for, with their inverse document frequency
    dropped: int  # words left out, because rarer ones say enough
    names: tuple[str, ...]  # that can only be code
    spelt: tuple[str, ...]  # names of the tree that the question spells out in words
    unknown: tuple[str, ...]  # of the names, those that stand nowhere
    paste: PasteKind | None
    found: tuple[tuple[str, int], ...]  # chunks by arm
    weights: tuple[tuple[str, float], ...]
    origin: str  # what the weights were fitted on


@dataclass(frozen=True, slots=True)
class Confidence:
    """``value`` in 0..1: that what the prompt shows holds the evidence for a right answer; after an answer was checked,
    that the answer is right. ``calibrated`` says whether it is a probability or only an ordering.
    """

    value: float
    tier: Tier
    reasons: tuple[str, ...]
    features: tuple[tuple[str, float], ...] = ()
    calibrated: bool = False
    gains: tuple[tuple[Tier, float], ...] = ()  # that a further tier shows what is missing, if something is
    guarantee: str = ""  # what is certified of answers that are this sure, in a sentence; "" where nothing is


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The best hits of a text, and how sure it is that they answer it."""

    query: str
    workspace: str
    stamp: Stamp
    confidence: Confidence
    hits: tuple[Hit, ...]
    notes: tuple[str, ...]
    files: tuple[tuple[str, float], ...]  # (path, score), best first
    understood: Understood


@dataclass(frozen=True, slots=True)
class Citation:
    label: int
    span: Span
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent to a backend. ``tokens`` counts system and user with the backend's own count."""

    system: str
    user: str
    citations: tuple[Citation, ...]
    evidence: tuple[str, ...]  # the quoted text of each citation, same order
    tokens: int
    dropped: tuple[Span, ...] = ()  # hits that did not fit the budget
    marks: tuple[str, ...] = ()  # how the text names each citation, such as "F3:120-158"; () where by its label
    renderings: tuple[Rendering, ...] = ()  # how much is shown of each citation; () where all of it


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. ``cached`` is None where the backend does not tell."""

    prompt: int = 0
    completion: int = 0
    cached: int | None = None


@dataclass(frozen=True, slots=True)
class Prefill:
    """The prompt is being read: of ``total`` tokens ``read`` are done, ``cached`` of those without any work."""

    read: int
    total: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token that was written, with the natural logarithm of its probability before sampling."""

    token: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()  # the likeliest tokens at its place, best first


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds as the engine measured them; 0 where it does not tell. ``prompt_s`` is of the tokens not cached."""

    load_s: float = 0.0
    prompt_s: float = 0.0
    completion_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of an answer: ``finish`` is "stop", "length" or "cancelled"."""

    text: str
    usage: Usage
    finish: str = "stop"
    logprobs: tuple[TokenLogprob, ...] = ()  # of the answer's tokens; joined they are its text
    timings: Timings = Timings()


Streamed = str | Prefill | Completion


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How to write. What a backend cannot do is named by its capabilities, and asking for it is an error."""

    max_tokens: int = 768
    temperature: float = 0.0
    seed: int = 0
    timeout_s: float = 1800.0  # longer than the longest prefill: a cold 256K prompt takes up to 13 minutes
    json_schema: str = ""  # JSON text of a JSON Schema that the answer must satisfy; "" leaves it free
    logprobs: int | None = None  # with how many alternatives for each token, 0 to 20; None asks for none
    needs_logprobs: bool = True  # False: an answer without those that were asked for is as good
    progress: bool = False  # Prefill is told while the prompt is read
    keep_alive_s: float | None = None  # how long the engine keeps the model afterwards; -1 for ever, None as it likes


class Counting(StrEnum):
    """What a backend's count of tokens is worth."""

    EXACT = "exact"
    BOUND = "bound"  # never too small once it has calibrated itself


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do beyond writing text."""

    counting: Counting = Counting.BOUND
    logprobs: bool = False
    json_schema: bool = False
    cached_tokens: bool = False  # Usage.cached is told
    progress: bool = False
    keep_alive: bool = False
    prefix_files: bool = False  # the state of a prompt that was read can be kept on disk and taken back


@dataclass(frozen=True, slots=True)
class PrefixState:
    """What an engine keeps of a prompt that it read, as it was put on disk or taken back from there."""

    tokens: int
    bytes: int
    seconds: float  # that saving or restoring took, as the engine measured it


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What a backend is and how much it can take.

    ``prompt_tokens`` is the size of prompt it answers well and soon, at most ``context_window`` less the answer.
    """

    name: str  # "ollama", "llama.cpp", "evidence only"
    model: str
    context_window: int  # tokens, prompt and answer together
    prompt_tokens: int
    writes: bool = True  # False where there is no model and the evidence itself is the answer
    evidence_first: bool = False  # a model so small that its text may only follow the quoted evidence


class Backend(Protocol):
    """A language model that reads one prompt. Implementations in hub/backends; one shared contract test."""

    def info(self) -> BackendInfo:
        """Raises BackendError when the model is not there."""

    def count_tokens(self, text: str) -> int:
        """Tokens of the text: the model's own count, or an upper estimate where the engine has no tokenizer to ask."""

    def capabilities(self) -> Capabilities:
        """Raises BackendError when the model is not there."""

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        """Yields pieces of text as they come and a Completion at the end. Closing the iterator cancels the request.

        Raises PromptTooLong before anything is sent if the prompt cannot fit, otherwise any BackendError.
        """

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Found:
    """Evidence was found; the model has not begun."""

    citations: tuple[Citation, ...]
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class Reading:
    """The model reads the prompt; nothing comes before its first token."""

    backend: str
    model: str
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Checked text of the answer, in order: joining all pieces gives the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One tier that was tried. ``left`` says in a sentence why it was not the last, "" where its answer stands."""

    tier: Tier
    confidence: float  # that its prompt holds the evidence, before anything was written
    checked: float | None = None  # that its answer is right, after the checks; None where nothing was written
    backend: str = "none"
    model: str = "none"
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    left: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """The answer is looked for in another tier; the text told so far is void. To an earlier tier where its answer is
    told again, to none where a refusal follows.
    """

    attempt: Attempt
    to: Tier
    gain: float  # that the tier shows what is missing, if something is
    cost_s: float  # seconds it is expected to take


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the whole code base comes next, counted from 1; ``number`` 0 tells what lies ahead of the first."""

    number: int
    total: int
    tokens: int  # that are still to be read, this part's with them
    seconds: float  # that they are expected to take


Event = Found | Reading | Prefill | Piece | Moved | Part


class Lack(StrEnum):
    """What an answer would have needed."""

    NAME = "name"  # that stands nowhere in the tree
    WORD = "word"  # of the question, that nothing in the tree holds
    PART = "part"  # of the question, that no answer spoke to


@dataclass(frozen=True, slots=True)
class Missing:
    """``nearest`` are names of the tree that may have been meant, the likeliest first."""

    lack: Lack
    what: str
    nearest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remedy:
    """What would raise the chance of an answer, in a sentence; ``command`` does it, "" where only words can."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no answer, what was looked at for it, and what would help. Told in place of a guess."""

    reasons: tuple[str, ...]
    missing: tuple[Missing, ...]
    looked_at: tuple[Attempt, ...]
    remedies: tuple[Remedy, ...]


class Way(StrEnum):
    """Where it goes from a tier."""

    ACCEPT = "accept"
    MOVE = "move"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Weighed:
    """A further tier as it was weighed. ``worth_s`` is what it is expected to win less what it costs, both in seconds;
    ``closed`` says in a sentence why it cannot or need not be tried, "" where it can.
    """

    tier: Tier
    gain: float  # that it shows what is missing, if something is
    harm: float  # that its longer prompt spoils an answer that would have been right
    cost_s: float
    worth_s: float
    closed: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided at a tier, with all that it rests on."""

    at: Tier
    way: Way
    tier: Tier  # where it goes: the same one, a further one, or none
    reason: str
    value: float  # the confidence at hand
    answered: bool  # whether that is of a checked answer, or of a prompt that nobody has read yet
    value_s: float  # what a right answer instead of a wrong one is worth, in seconds of waiting
    certified: float | None = None  # from here on answers are certified; None where nothing is
    weighed: tuple[Weighed, ...] = ()
    arithmetic: tuple[tuple[str, float], ...] = ()  # what each feature adds to the value's log-odds, largest first
    origin: str = ""  # what these weights were fitted on


@dataclass(frozen=True, slots=True)
class Answer:
    """``text`` is what the user reads. ``notes`` says what was withheld or replaced, and why."""

    question: str
    text: str
    confidence: Confidence
    tier: Tier
    tried: tuple[Tier, ...]
    citations: tuple[Citation, ...]
    backend: str
    model: str
    usage: Usage
    seconds: float
    stamp: Stamp
    workspace: str
    notes: tuple[str, ...] = field(default=())
    attempts: tuple[Attempt, ...] = ()  # every tier that was tried, in order
    decisions: tuple[Decision, ...] = ()  # what was decided on the way, in order
    refusal: Refusal | None = None  # why it was declined, where it was

    @property
    def declined(self) -> bool:
        return self.tier is Tier.NONE
