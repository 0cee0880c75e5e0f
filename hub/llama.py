"""LlamaIndex on both sides of the hub: our search and answers for its users, its models and splitters for us.

``HubRetriever`` and ``HubQueryEngine`` put a workspace into any LlamaIndex pipeline, ``LlamaBackend`` lets any of its
language models write our answers, ``split_markdown`` cuts knowledge that comes from outside the tree,
``summarize_tree`` puts together what the parts of a code base were noted to say. Owns llama_index, whose types leave
only as the base classes and results of those public classes. It takes 2 to 5 s to import, so that nothing on the way of
a command imports this module, except where a tree is summarized.

Knows nothing of how to rank or cite, and never reads LlamaIndex's global ``Settings`` nor its default tokenizers: those
resolve models of OpenAI and fetch vocabularies from the network.
"""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from weakref import WeakKeyDictionary

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.base.response.schema import Response
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.node_parser import MarkdownNodeParser, SentenceSplitter
from llama_index.core.prompts import PromptTemplate
from llama_index.core.prompts.mixin import PromptMixinType
from llama_index.core.response_synthesizers import TreeSummarize
from llama_index.core.schema import Document, NodeWithScore, QueryBundle, TextNode

from hub.analysis import Summary
from hub.backends import refuse_overlong, refuse_unsupported
from hub.errors import BackendError, BackendUnavailable, BrokenStream
from hub.model import (
    Answer,
    Attempt,
    BackendInfo,
    Capabilities,
    Citation,
    Completion,
    GenerationOptions,
    Hit,
    Prompt,
    Streamed,
    Usage,
)
from hub.service import Service
from indexer.model import Span

# Tokens. What a chat template adds: 5 to 60 in the usual ones, about 100 in gpt-oss's.
TEMPLATE_TOKENS = 128
# Tokens. A prompt that is answered well and soon, where the window allows it. 4,000 to 64,000.
PROMPT_TOKENS = 16_384
# ASCII characters, safe side. Over 2,921 windows of 3,000 characters of C++ headers and Markdown, cl100k and o200k take
# 2.13 at least, 2.75 in the hardest hundredth and 3.74 at the median; SmolLM2, whose vocabulary is half as large, takes
# 1.9 to 2.2 in the hardest hundredth (see hub.backends.ollama). 2 to 3. Other characters count one token a byte, the
# most that a vocabulary with byte fallback can make of them: cl100k makes 14 of 22 bytes of emoji, 14 of 45 of Chinese.
ASCII_PER_TOKEN = 2

_PADDING = 5  # tokens of each prompt that LlamaIndex's helper leaves free for its own formats
_BETWEEN_NOTES = 8  # tokens, at most, of the blank lines between two notes

# Characters. Pieces of knowledge are searched beside chunks of code and are as large. 800 to 2,000.
PIECE_SIZE = 1400

_HEADING = re.compile(r"#+\s(.*)", re.DOTALL)  # as MarkdownNodeParser reads one
_CLOSING_MARKS = re.compile(r"(?:^|\s)#+$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)", re.DOTALL)
# Parts the headings of a path; the only character that none can hold, because it ends the line.
_BETWEEN_HEADINGS = "\n"
_CUT_SHORT = frozenset({"length", "max_tokens", "MAX_TOKENS"})

CountTokens = Callable[[str], int]
RequestArguments = Callable[[GenerationOptions], Mapping[str, object]]


class HubRetriever(BaseRetriever):
    """Our search as a LlamaIndex retriever: the best ``limit`` hits, best first.

    A node's id is its chunk's, its text exactly the chunk's lines, its score ours (a weighted sum: an ordering,
    no similarity). Metadata: path, first_line, last_line, symbol, kind, title, and signals, the rank that
    each arm gave. Raises HubError and IndexerError as ``Service.search`` does.
    """

    def __init__(self, service: Service, limit: int = 10) -> None:
        super().__init__(callback_manager=CallbackManager([]))
        self._service = service
        self._limit = limit

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        with _turn(self._service):
            hits = self._service.search(query_bundle.query_str, self._limit).hits
        return [_hit_node(hit) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


class HubQueryEngine(BaseQueryEngine):
    """Our checked answers as a LlamaIndex query engine.

    ``source_nodes`` are the citations in the order of their labels; their text is exactly the cited lines as they were
    indexed, their id "path:first-last", and they have no score. Metadata of the response: confidence (0..1),
    calibrated, reasons, gains (by tier), guarantee, tier, tried, attempts (of each tier what it took and why it was
    left), notes, declined, missing, remedies, workspace, commit, backend, model. A declined question is a response too,
    without sources; ``missing`` says what it lacks. Raises HubError and IndexerError as ``Service.ask`` does.
    """

    def __init__(self, service: Service) -> None:
        super().__init__(callback_manager=CallbackManager([]))
        self._service = service

    def _get_prompt_modules(self) -> PromptMixinType:
        return {}

    def _query(self, query_bundle: QueryBundle) -> Response:
        with _turn(self._service):
            answer = self._service.ask(query_bundle.query_str)
            nodes = [_citation_node(self._service, citation) for citation in answer.citations]
        return Response(answer.text, nodes, _answer_metadata(answer))

    async def _aquery(self, query_bundle: QueryBundle) -> Response:
        return await asyncio.to_thread(self._query, query_bundle)


class LlamaBackend:
    """Any LlamaIndex language model as a Backend.

    ``count_tokens`` is the model's own count where the caller has it; without it the upper estimate of
    ``estimate_tokens`` is used, never a tokenizer of LlamaIndex, which is one of OpenAI's and may be fetched at run
    time. ``request`` turns the options of an answer into keyword arguments of the model's ``stream_chat``; there are no
    such arguments that every model knows, so that temperature, seed and time limit are otherwise those that the model
    was made with. The length of an answer is bounded here in any case.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        count_tokens: CountTokens | None = None,
        prompt_tokens: int = PROMPT_TOKENS,
        request: RequestArguments = lambda _options: {},
    ) -> None:
        self._llm = llm
        self._count = count_tokens or estimate_tokens
        self._prompt_tokens = prompt_tokens
        self._request = request

    def info(self) -> BackendInfo:
        """The window is what the model's metadata says, 3,900 where it says nothing. Raises BackendError."""
        about = self._metadata()
        room = about.context_window - GenerationOptions().max_tokens - TEMPLATE_TOKENS
        return BackendInfo(
            "llama-index", about.model_name, about.context_window, max(0, min(self._prompt_tokens, room))
        )

    def count_tokens(self, text: str) -> int:
        """The model's own count, or an upper estimate."""
        return self._count(text)

    def capabilities(self) -> Capabilities:
        """What every LLM of LlamaIndex can do: write."""
        return Capabilities()

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        """As Backend.stream. The model is called when the first piece is asked for.

        The answer ends as "length" after ``options.max_tokens`` pieces, each of which is a token at least, or when the
        model says so. Usage is the model's where it tells, else our count of the prompt and one token for each piece.
        """
        about = self._metadata()
        refuse_unsupported(options, self.capabilities(), "llama-index")
        refuse_overlong(prompt.tokens + TEMPLATE_TOKENS, options.max_tokens, about.context_window)
        return self._written(prompt, options, about)

    def close(self) -> None:
        """Nothing is held; the model belongs to the caller."""

    def _metadata(self) -> LLMMetadata:
        try:
            return self._llm.metadata
        except Exception as error:  # an LLM of LlamaIndex may raise anything; translated, never swallowed
            raise _translated(error, self._llm.class_name(), begun=False) from error

    def _written(self, prompt: Prompt, options: GenerationOptions, about: LLMMetadata) -> Iterator[Streamed]:
        messages = [ChatMessage(role=about.system_role, content=prompt.system)] if prompt.system else []
        messages.append(ChatMessage(role=MessageRole.USER, content=prompt.user))
        arguments = self._request(options)
        text, pieces, finish = "", 0, "stop"
        usage = Usage(prompt=prompt.tokens)
        try:
            with closing(self._llm.stream_chat(messages, **arguments)) as responses:
                for response in responses:
                    piece = _piece(response, text)
                    usage = _usage(response) or usage
                    if _says_cut_short(response):
                        finish = "length"
                    if not piece:
                        continue
                    text += piece
                    pieces += 1
                    yield piece
                    if pieces >= options.max_tokens:
                        finish = "length"
                        break
        except Exception as error:  # an LLM of LlamaIndex may raise anything; translated, never swallowed
            raise _translated(error, about.model_name, begun=pieces > 0) from error
        yield Completion(text, usage if usage.completion else replace(usage, completion=pieces), finish)


class _Writer(CustomLLM):
    """Our writing as a LlamaIndex language model: what it is sent are the notes alone, what it says was checked."""

    write: Callable[[str], str]

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="codehub")

    def complete(self, prompt: str, formatted: bool = False, **_kwargs: object) -> CompletionResponse:  # noqa: ARG002 - CustomLLM's
        return CompletionResponse(text=self.write(prompt))

    def stream_complete(self, prompt: str, formatted: bool = False, **_kwargs: object) -> CompletionResponseGen:
        yield self.complete(prompt, formatted)


def summarize_tree(notes: Sequence[str], summary: Summary) -> str:
    """One text of all notes by LlamaIndex's tree summarizer: as many as fit are put together, then what came of these.

    Notes are parted between each other, only a longer one than ``summary.room`` within. Whatever ``summary.write``
    raises comes out unchanged. Raises ValueError where two texts of ``summary.longest`` have no room together: the
    tree would never come to its root.
    """
    if 2 * summary.longest + _BETWEEN_NOTES > summary.room:
        raise ValueError(f"two texts of {summary.longest} tokens do not fit {summary.room}")

    def measure(text: str) -> list[int]:
        return [0] * summary.count(text)  # the helper takes the length of what a tokenizer returns, and nothing else

    window = summary.room + summary.longest + _PADDING
    helper = PromptHelper(window, summary.longest, 0.0, tokenizer=measure, separator="\n\n")
    # Never asked, but left out it would be made with LlamaIndex's own tokenizer, which is fetched from the network.
    chat_helper = ChatPromptHelper(window, summary.longest, 0.0, tokenizer=measure)
    tree = TreeSummarize(
        _Writer(write=summary.write, callback_manager=CallbackManager([])),
        CallbackManager([]),
        helper,
        chat_helper,
        PromptTemplate("{context_str}"),
    )
    return str(tree.get_response("", list(notes)))


@dataclass(frozen=True, slots=True)
class MarkdownPiece:
    """Lines of a Markdown text, numbered from 1, both ends in. ``text`` is exactly these lines.

    ``headings`` is the path of headings that they stand under, the outermost first; empty above the first heading.
    """

    headings: tuple[str, ...]
    first_line: int
    last_line: int
    text: str


def split_markdown(text: str, size: int = PIECE_SIZE) -> tuple[MarkdownPiece, ...]:
    r"""A Markdown text in its sections, and sections of more than ``size`` characters in pieces of at most that.

    The pieces are whole lines in order, do not overlap and hold every line that is not blank; a line longer than
    ``size`` is a piece of its own. A heading right above one of a lower level shares its piece. Lines end at ``\n``
    only. Headings are those with ``#``; underlined ones do not begin a section, and nothing in a fence does.
    ``text`` is valid Unicode, as that of a SourceFile.
    """
    lines = _lines(text)
    pieces: list[MarkdownPiece] = []
    for section in _sections(lines):
        pieces += _cut(lines, section, size) if len(section.text) > size else [section]
    return tuple(pieces)


def estimate_tokens(text: str) -> int:
    """An upper estimate for a model whose tokenizer is not at hand: see ASCII_PER_TOKEN."""
    size = len(text.encode("utf-8", "surrogatepass"))
    ascii_size = sum(map(str.isascii, text)) if size > len(text) else size
    return -(-ascii_size // ASCII_PER_TOKEN) + size - ascii_size


# A Service has one database connection and makes its models on the first call, so that asynchronous callers take turns.
_turns: WeakKeyDictionary[Service, threading.Lock] = WeakKeyDictionary()
_turns_lock = threading.Lock()


def _turn(service: Service) -> threading.Lock:
    with _turns_lock:
        return _turns.setdefault(service, threading.Lock())


def _hit_node(hit: Hit) -> NodeWithScore:
    metadata = {
        **_place(hit.chunk.span),
        "symbol": hit.symbol_name,
        "kind": hit.symbol_kind,
        "title": hit.chunk.title,
        "signals": {signal.source.value: signal.rank for signal in hit.signals},
    }
    return NodeWithScore(node=_node(hit.chunk.id, hit.chunk.text, metadata), score=hit.score)


def _citation_node(service: Service, citation: Citation) -> NodeWithScore:
    metadata = {**_place(citation.span), "symbol": citation.symbol, "label": citation.label}
    return NodeWithScore(node=_node(str(citation.span), service.lines(citation.span), metadata))


def _node(identity: str, text: str, metadata: dict[str, object]) -> TextNode:
    # What a model or an embedder is shown beside the text: where it stands and what it is, no arithmetic.
    hidden = sorted(metadata.keys() - {"path", "first_line", "last_line", "symbol"})
    return TextNode(
        id_=identity,
        text=text,
        metadata=metadata,
        excluded_llm_metadata_keys=hidden,
        excluded_embed_metadata_keys=sorted(metadata.keys() - {"title"}),
    )


def _place(span: Span) -> dict[str, object]:
    return {"path": span.path, "first_line": span.first_line, "last_line": span.last_line}


def _answer_metadata(answer: Answer) -> dict[str, object]:
    return {
        "confidence": answer.confidence.value,
        "calibrated": answer.confidence.calibrated,
        "reasons": list(answer.confidence.reasons),
        "gains": {tier.value: gain for tier, gain in answer.confidence.gains},
        "guarantee": answer.confidence.guarantee,
        "tier": answer.tier.value,
        "tried": [tier.value for tier in answer.tried],
        "attempts": [_attempt_metadata(attempt) for attempt in answer.attempts],
        "missing": [missing.what for missing in answer.refusal.missing] if answer.refusal else [],
        "remedies": [remedy.text for remedy in answer.refusal.remedies] if answer.refusal else [],
        "notes": list(answer.notes),
        "declined": answer.declined,
        "workspace": answer.workspace,
        "commit": answer.stamp.commit,
        "behind": asdict(answer.stamp.behind) if answer.stamp.behind else None,
        "backend": answer.backend,
        "model": answer.model,
    }


def _attempt_metadata(attempt: Attempt) -> dict[str, object]:
    return {
        "tier": attempt.tier.value,
        "confidence": attempt.confidence,
        "checked": attempt.checked,
        "prompt_tokens": attempt.usage.prompt,
        "completion_tokens": attempt.usage.completion,
        "seconds": attempt.seconds,
        "left": attempt.left,
    }


def _piece(response: ChatResponse, before: str) -> str:
    """What a response adds; models without deltas repeat the text so far."""
    if response.delta is not None:
        return response.delta
    return (response.message.content or "").removeprefix(before)


def _usage(response: ChatResponse) -> Usage | None:
    """The tokens used, where the model tells them in one of the two places that LlamaIndex's integrations have."""
    told = _field(response.raw, "usage")
    for holder in (response.additional_kwargs, response.message.additional_kwargs, told):
        prompt, completion = _field(holder, "prompt_tokens"), _field(holder, "completion_tokens")
        if isinstance(prompt, int) and isinstance(completion, int):
            return Usage(prompt, completion)
    return None


def _says_cut_short(response: ChatResponse) -> bool:
    """Whether the model says in its raw response that it stopped at its own longest answer."""
    choices = _field(response.raw, "choices")
    holders = [response.raw, *(choices if isinstance(choices, Sequence) else ())]
    reasons = (_field(holder, key) for holder in holders for key in ("finish_reason", "done_reason", "stop_reason"))
    return any(reason in _CUT_SHORT for reason in reasons if isinstance(reason, str))


def _field(holder: object, name: str) -> object:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _translated(error: Exception, model: str, *, begun: bool) -> BackendError:
    """The error of a model in our words. There are as many kinds as makers; what they share is how they came about."""
    if isinstance(error, BackendError):
        return error
    said = f"{type(error).__name__}: {error}".strip().rstrip(":.")
    if begun:
        return BrokenStream(f"The model {model} broke off ({said}).", "Ask again, or look at its server's log.")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return BackendUnavailable(f"The model {model} cannot be reached ({said}).", "Is its server running?")
        cause = cause.__cause__
    return BackendError(f"The model {model} did not answer ({said}).", "Look at how it was set up.")


def _lines(text: str) -> list[str]:
    r"""The lines with their ends; joined they are the text."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _sections(lines: Sequence[str]) -> list[MarkdownPiece]:
    parser = MarkdownNodeParser(header_path_separator=_BETWEEN_HEADINGS)
    nodes = parser.get_nodes_from_documents([Document(text="".join(_without_fences(lines)))])
    places = _places(lines, 1, (node.get_content() for node in nodes))
    sections: list[MarkdownPiece] = []
    bare = False  # whether the section before is nothing but headings
    for node, (start, last) in zip(nodes, places, strict=True):
        own = _HEADING.match(lines[start - 1])
        path = [*str(node.metadata["header_path"]).split(_BETWEEN_HEADINGS), own[1] if own else ""]
        headings = tuple(name for name in map(_heading_name, path) if name)
        joins = bare and headings[:-1] == sections[-1].headings
        first = sections.pop().first_line if joins else start
        sections.append(MarkdownPiece(headings, first, last, "".join(lines[first - 1 : last])))
        bare = bool(headings) and start == last
    return sections


def _cut(lines: Sequence[str], section: MarkdownPiece, size: int) -> Iterator[MarkdownPiece]:
    room = max(1, size - 1)  # the splitter counts a line's end to the line below

    def measure(text: str) -> range:
        # A single line never measures more than a piece may, so that the splitter has no reason to cut it.
        return range(len(text) if "\n" in text.strip("\n") else min(len(text), room))

    splitter = SentenceSplitter(
        chunk_size=room,
        chunk_overlap=0,
        tokenizer=measure,
        paragraph_separator="\n\n",
        chunking_tokenizer_fn=_lines,
        secondary_chunking_regex=None,
    )
    for first, last in _places(lines, section.first_line, splitter.split_text(section.text)):
        yield MarkdownPiece(section.headings, first, last, "".join(lines[first - 1 : last]))


def _places(lines: Sequence[str], start: int, stripped: Iterator[str] | Sequence[str]) -> Iterator[tuple[int, int]]:
    """(first, last) line of texts that follow each other from ``start``, with only blank lines left out between."""
    first = start
    for text in stripped:
        while not lines[first - 1].strip():
            first += 1
        last = first + text.count("\n")
        yield first, last
        first = last + 1


def _without_fences(lines: Sequence[str]) -> Iterator[str]:
    """The lines, with an inert one for each line of fenced code that is not blank.

    MarkdownNodeParser knows only fences of three backticks, whatever their indent, and takes an inner one for the end
    of the outer. It gets to see none.
    """
    opened = ""
    for line in lines:
        fence = _FENCE.match(line)
        inside = bool(opened)
        if opened:
            if fence and fence[1].startswith(opened) and not fence[2].strip():
                opened = ""
        elif fence and not (fence[1][0] == "`" and "`" in fence[2]):
            opened, inside = fence[1], True
        inert = inside or line.lstrip().startswith("```")
        yield "code\n" if inert and line.strip() else line


def _heading_name(written: str) -> str:
    return _CLOSING_MARKS.sub("", written.strip()).rstrip()
