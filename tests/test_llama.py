"""LlamaIndex meets the hub: over a real index, with its own models in process, and with the network shut."""

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import CustomLLM, MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import MetadataMode, TextNode

from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.errors import BackendError, BackendUnavailable, BrokenStream, PromptTooLong
from hub.llama import (
    TEMPLATE_TOKENS,
    HubQueryEngine,
    HubRetriever,
    LlamaBackend,
    MarkdownPiece,
    estimate_tokens,
    split_markdown,
)
from hub.model import Backend, Completion, GenerationOptions, Prompt, Usage
from hub.service import AskOptions, Service
from indexer.index import DataFolder, Index
from tests.contract import test_backend_contract
from tests.support.trees import index_of, write_tree

ROOT = Path(__file__).parent.parent

TREE = {
    "src/fleet.cc": (
        '#include "fleet.h"\n'
        "\n"
        "namespace harbour {\n"
        "\n"
        "// Sends every ship whose tank is full out of the harbour.\n"
        "int Fleet::Launch(int limit) {\n"
        "  int launched = 0;\n"
        "  for (Ship& ship : ships_) {\n"
        "    if (launched == limit) break;\n"
        "    if (ship.Refuel()) ++launched;\n"
        "  }\n"
        "  return launched;\n"
        "}\n"
        "\n"
        "}  // namespace harbour\n"
    ),
    "src/fleet.h": (
        "#pragma once\n"
        "#include <vector>\n"
        "namespace harbour {\n"
        "struct Ship {\n"
        "  bool Refuel();\n"
        "};\n"
        "class Fleet {\n"
        " public:\n"
        "  int Launch(int limit);\n"
        " private:\n"
        "  std::vector<Ship> ships_;\n"
        "};\n"
        "}  // namespace harbour\n"
    ),
    "README.md": "# Harbour\n\nA fleet of ships waits for fuel.\n\n## Tides\n\nAt low tide no ship leaves.\n",
}
OPTIONS = GenerationOptions(max_tokens=16, timeout_s=60)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    folder = tmp_path_factory.mktemp("llama")
    index_of(write_tree(folder / "tree", {**TREE}), folder / "data")
    return DataFolder(folder / "data")


@pytest.fixture(scope="module")
def service(data: DataFolder) -> Iterator[Service]:
    with closing(service_of(data, EvidenceOnlyBackend())) as opened:
        yield opened


def service_of(data: DataFolder, backend: Backend) -> Service:
    return Service(Index.for_reading(data, "w"), list, lambda: backend, AskOptions(answer_tokens=64))


def cited_lines(metadata: dict[str, Any]) -> str:
    """The lines that a node's metadata names, from the tree's own text."""
    lines = TREE[metadata["path"]].split("\n")[metadata["first_line"] - 1 : metadata["last_line"]]
    return "\n".join(lines)


def node_facts(nodes: Sequence[Any]) -> list[tuple[str, str, dict[str, Any], float | None]]:
    return [(node.node_id, node.text, node.metadata, node.score) for node in nodes]


# The retriever


def test_the_retriever_returns_the_hits_of_a_search_in_their_order(service: Service) -> None:
    hits = service.search("ships wait for fuel", 5).hits
    nodes = HubRetriever(service, 5).retrieve("ships wait for fuel")
    assert len(hits) >= 2
    assert [(node.node_id, node.score, node.text) for node in nodes] == [
        (hit.chunk.id, hit.score, hit.chunk.text) for hit in hits
    ]


def test_a_node_says_where_it_stands_what_it_is_and_why_it_was_found(service: Service) -> None:
    first = HubRetriever(service, 3).retrieve("Fleet::Launch")[0]
    assert first.metadata["path"] == "src/fleet.cc"
    assert first.metadata["symbol"] == "harbour::Fleet::Launch"
    assert first.metadata["kind"]
    assert first.metadata["title"].startswith("src/fleet.cc | harbour::Fleet::Launch")
    assert first.metadata["signals"]["symbol"] == 1
    assert first.text.rstrip("\n") == cited_lines(first.metadata)


def test_the_retriever_never_returns_more_than_its_limit(service: Service) -> None:
    assert len(HubRetriever(service, 1).retrieve("ship")) == 1


def test_a_model_is_shown_where_a_node_stands_and_none_of_the_arithmetic(service: Service) -> None:
    node = HubRetriever(service, 1).retrieve("Fleet::Launch")[0].node
    assert isinstance(node, TextNode)
    shown = node.get_content(metadata_mode=MetadataMode.LLM)
    assert "path: src/fleet.cc" in shown
    assert "signals" not in shown


def test_asking_at_once_from_many_tasks_gives_each_what_it_would_get_alone(service: Service) -> None:
    questions = ["Fleet::Launch", "low tide", "Ship", "fuel"] * 3
    retriever, engine = HubRetriever(service, 4), HubQueryEngine(service)

    async def together() -> tuple[list[Any], list[Any]]:
        found = asyncio.gather(*(retriever.aretrieve(question) for question in questions))
        answered = asyncio.gather(*(engine.aquery(question) for question in questions))
        return await asyncio.wait_for(found, 60), await asyncio.wait_for(answered, 60)

    found, answered = asyncio.run(together())
    assert [node_facts(nodes) for nodes in found] == [node_facts(retriever.retrieve(q)) for q in questions]
    assert [str(response) for response in answered] == [str(engine.query(q)) for q in questions]


def test_two_questions_at_once_make_the_model_of_their_service_once(data: DataFolder) -> None:
    made: list[Backend] = []
    both_make_one = threading.Barrier(2)

    def make() -> Backend:
        with suppress(threading.BrokenBarrierError):
            both_make_one.wait(timeout=0.3)
        made.append(EvidenceOnlyBackend())
        return made[-1]

    async def together(service: Service) -> None:
        answers = (HubQueryEngine(service).aquery("what happens at low tide") for _ in range(2))
        await asyncio.wait_for(asyncio.gather(*answers), 60)

    with closing(Service(Index.for_reading(data, "w"), list, make, AskOptions())) as service:
        asyncio.run(together(service))
    assert len(made) == 1


def test_the_retriever_works_in_a_query_engine_of_llama_index(service: Service) -> None:
    engine = RetrieverQueryEngine(
        HubRetriever(service, 2),
        get_response_synthesizer(llm=MockLLM(max_tokens=3), response_mode=ResponseMode.GENERATION),
    )
    response = engine.query("Where is low tide described?")
    assert isinstance(response, Response)
    assert response.response == "text text text"
    assert response.source_nodes[0].metadata["path"] == "README.md"


# The query engine


@pytest.mark.parametrize(
    "question", ["Where is Fleet::Launch defined?", "who calls Refuel", "what happens at low tide"]
)
def test_an_answer_comes_with_exactly_the_cited_lines(service: Service, question: str) -> None:
    answer = service.ask(question)
    response = HubQueryEngine(service).query(question)
    assert isinstance(response, Response)
    assert response.response == answer.text
    assert answer.citations
    assert [node.metadata["label"] for node in response.source_nodes] == [c.label for c in answer.citations]
    for node, citation in zip(response.source_nodes, answer.citations, strict=True):
        assert node.text.rstrip("\n") == cited_lines(node.metadata).rstrip("\n")
        assert node.node_id == str(citation.span)
        assert node.metadata["symbol"] == citation.symbol


def test_a_citation_within_a_chunk_and_one_across_chunks_hold_their_lines_and_no_others(service: Service) -> None:
    nodes = HubQueryEngine(service).query("who calls Refuel").source_nodes
    assert [node.text for node in nodes] == ["    if (ship.Refuel()) ++launched;\n"]
    (whole,) = HubQueryEngine(service).query("Where is Fleet defined?").source_nodes
    assert whole.text.startswith("class Fleet {\n")
    assert whole.text.endswith("};\n")


def test_a_response_tells_how_sure_it_is_and_what_it_rests_on(service: Service) -> None:
    metadata = HubQueryEngine(service).query("what happens at low tide").metadata
    answer = service.ask("what happens at low tide")
    assert metadata is not None
    assert metadata["confidence"] == answer.confidence.value
    assert (metadata["tier"], metadata["declined"], metadata["workspace"]) == ("rag", False, "w")
    assert metadata["notes"] == list(answer.notes)
    assert metadata["gains"] == {tier.value: gain for tier, gain in answer.confidence.gains}
    assert metadata["guarantee"] == answer.confidence.guarantee
    told = [(attempt["tier"], attempt["prompt_tokens"], attempt["left"]) for attempt in metadata["attempts"]]
    assert told == [(attempt.tier.value, attempt.usage.prompt, attempt.left) for attempt in answer.attempts]
    assert [attempt["tier"] for attempt in metadata["attempts"]] == ["exact", "rag"]
    assert metadata["missing"] == metadata["remedies"] == []


def test_a_question_that_the_hub_declines_is_a_response_without_sources(service: Service) -> None:
    response = HubQueryEngine(service).query("Where is Zeppelin::Moor defined?")
    assert service.ask("Where is Zeppelin::Moor defined?").declined
    assert response.metadata is not None
    assert response.metadata["declined"] is True
    assert response.source_nodes == []
    assert str(response).startswith("Not found.")
    assert response.metadata["missing"] == ["Zeppelin::Moor"]
    assert response.metadata["remedies"]


# The backend


class Speaker(CustomLLM):
    """Says its words one by one, and with ``fails_after`` breaks off; ``closed`` counts the streams that ended."""

    words: tuple[str, ...] = ("It", " is", " in", " [1]", *(f" word{number}" for number in range(600)))
    window: int = 4096
    fails_after: int | None = None
    error: Any = None
    whole_text: bool = False
    raw: Any = None
    asked: list[str] = []  # noqa: RUF012 - pydantic copies it for each model
    arguments: list[dict[str, Any]] = []  # noqa: RUF012 - same
    closed: int = 0

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=self.window, model_name="speaker")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    def stream_complete(self, prompt: str, **kwargs: Any) -> CompletionResponseGen:  # type: ignore[override] # formatted
        self.asked.append(prompt)
        self.arguments.append(kwargs)
        return self._speak()

    def _speak(self) -> CompletionResponseGen:
        try:
            said = ""
            for number, word in enumerate(self.words):
                if number == self.fails_after:
                    raise self.error
                said += word
                yield CompletionResponse(text=said, delta=None if self.whole_text else word, raw=self.raw)
            if self.fails_after == len(self.words):
                raise self.error
        finally:
            self.closed += 1


def asked_prompt(user: str = "[1] int x;\nWhat is x?", backend: LlamaBackend | None = None) -> Prompt:
    count = (backend or LlamaBackend(MockLLM())).count_tokens
    return Prompt("Cite the evidence.", user, (), (), count("Cite the evidence.") + count(user))


PROMISES = [
    promise
    for name, promise in vars(test_backend_contract).items()
    if name.startswith("test_") and list(inspect.signature(promise).parameters) == ["backend"]
]


@pytest.mark.parametrize("promise", PROMISES)
def test_a_model_of_llama_index_keeps_every_promise_of_a_backend(promise: Callable[..., None]) -> None:
    promise(backend=LlamaBackend(Speaker()))


def test_the_contract_was_found() -> None:
    assert len(PROMISES) >= 5


@pytest.mark.parametrize("whole_text", [False, True])
def test_a_model_that_repeats_its_text_says_the_same_as_one_that_tells_what_is_new(whole_text: bool) -> None:
    speaker = Speaker(words=("It is", " [1]", ".", "", " It is", " [1]"), whole_text=whole_text)
    *pieces, end = LlamaBackend(speaker).stream(asked_prompt(), OPTIONS)
    assert pieces == ["It is", " [1]", ".", " It is", " [1]"]
    assert end == Completion("It is [1]. It is [1]", Usage(asked_prompt().tokens, 5))


def test_the_mock_of_llama_index_answers() -> None:
    *pieces, end = LlamaBackend(MockLLM(max_tokens=3)).stream(asked_prompt(), OPTIONS)
    assert "".join(map(str, pieces)) == "text text text"
    assert isinstance(end, Completion)
    assert end.finish == "stop"


def test_system_and_user_reach_the_model_whole_and_in_their_roles() -> None:
    speaker = Speaker(words=("x",))
    list(LlamaBackend(speaker).stream(asked_prompt("What is x?"), OPTIONS))
    assert speaker.asked == ["system: Cite the evidence.\nuser: What is x?\nassistant: "]


def test_options_reach_the_model_as_the_caller_says_and_otherwise_not_at_all() -> None:
    speaker = Speaker(words=("x",))
    list(LlamaBackend(speaker).stream(asked_prompt(), OPTIONS))
    told = LlamaBackend(speaker, request=lambda options: {"max_tokens": options.max_tokens})
    list(told.stream(asked_prompt(), OPTIONS))
    assert [set(arguments) - {"formatted"} for arguments in speaker.arguments] == [set(), {"max_tokens"}]
    assert speaker.arguments[1]["max_tokens"] == OPTIONS.max_tokens


@pytest.mark.parametrize(
    ("fails_after", "error", "expected"),
    [
        (0, ValueError("no such model"), BackendError),
        (0, ConnectionRefusedError("refused"), BackendUnavailable),
        (0, TimeoutError(), BackendUnavailable),
        (2, ConnectionResetError("reset"), BrokenStream),
        (2, RuntimeError("out of memory"), BrokenStream),
        (604, KeyError("usage"), BrokenStream),
    ],
)
def test_whatever_a_model_raises_is_an_error_of_the_backend_that_names_it(
    fails_after: int, error: Exception, expected: type[BackendError]
) -> None:
    backend = LlamaBackend(Speaker(fails_after=fails_after, error=error))
    options = GenerationOptions(max_tokens=1000)
    with pytest.raises(BackendError) as raised:
        list(backend.stream(asked_prompt(), options))
    assert type(raised.value) is expected
    assert "speaker" in raised.value.message
    assert type(error).__name__ in raised.value.message
    assert raised.value.hint
    assert raised.value.__cause__ is error


def test_a_makers_own_error_caused_by_the_network_is_an_unreachable_model() -> None:
    error = RuntimeError("connection error")
    error.__cause__ = ConnectionRefusedError("refused")
    with pytest.raises(BackendUnavailable):
        list(LlamaBackend(Speaker(fails_after=0, error=error)).stream(asked_prompt(), OPTIONS))


def test_a_model_that_does_not_know_itself_is_an_error_of_the_backend() -> None:
    class Nameless(Speaker):
        @property
        def metadata(self) -> LLMMetadata:
            raise ValueError("unknown model")

    with pytest.raises(BackendError, match="unknown model"):
        LlamaBackend(Nameless()).info()
    with pytest.raises(BackendError, match="unknown model"):
        LlamaBackend(Nameless()).stream(asked_prompt(), OPTIONS)


def test_an_interruption_is_no_error_of_the_backend() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(LlamaBackend(Speaker(fails_after=1, error=KeyboardInterrupt())).stream(asked_prompt(), OPTIONS))


def test_closing_half_way_ends_the_models_stream_and_the_next_answer_is_whole() -> None:
    speaker = Speaker()
    backend = LlamaBackend(speaker)
    left = backend.stream(asked_prompt(), OPTIONS)
    next(left)
    assert speaker.closed == 0
    left.close()  # type: ignore[attr-defined]
    assert speaker.closed == 1
    *pieces, _ = backend.stream(asked_prompt(), OPTIONS)
    assert len(pieces) == OPTIONS.max_tokens
    assert speaker.closed == 2


def test_nothing_is_sent_before_the_answer_is_read_nor_when_the_prompt_is_too_long() -> None:
    speaker = Speaker(window=1000)
    backend = LlamaBackend(speaker)
    backend.stream(asked_prompt(), OPTIONS)
    room = speaker.window - OPTIONS.max_tokens - TEMPLATE_TOKENS
    with pytest.raises(PromptTooLong):
        backend.stream(Prompt("", "x", (), (), room + 1), OPTIONS)
    assert speaker.asked == []
    assert list(backend.stream(Prompt("", "x", (), (), room), OPTIONS))
    assert len(speaker.asked) == 1


@pytest.mark.parametrize(
    "raw", [{"done_reason": "length"}, {"choices": [{"finish_reason": "length"}]}, {"stop_reason": "max_tokens"}]
)
def test_a_model_that_stopped_at_its_own_longest_answer_says_so(raw: dict[str, Any]) -> None:
    *_, end = LlamaBackend(Speaker(words=("half",), raw=raw)).stream(asked_prompt(), OPTIONS)
    assert isinstance(end, Completion)
    assert end.finish == "length"
    *_, end = LlamaBackend(Speaker(words=("whole",), raw={"done_reason": "stop"})).stream(asked_prompt(), OPTIONS)
    assert isinstance(end, Completion)
    assert end.finish == "stop"


def test_the_models_own_figures_are_used_where_it_tells_them() -> None:
    raw = {"usage": {"prompt_tokens": 77, "completion_tokens": 5, "total_tokens": 82}}
    *_, end = LlamaBackend(Speaker(words=("x", "y"), raw=raw)).stream(asked_prompt(), OPTIONS)
    assert isinstance(end, Completion)
    assert end.usage == Usage(77, 5)


def test_a_count_that_the_caller_has_is_used() -> None:
    assert LlamaBackend(MockLLM(), count_tokens=lambda text: len(text.split())).count_tokens("a b c") == 3


@given(st.text(), st.text())
def test_the_estimate_grows_with_the_text_and_counts_parts_about_as_much_as_the_whole(above: str, below: str) -> None:
    parts = estimate_tokens(above) + estimate_tokens(below)
    whole = estimate_tokens(above + below)
    assert max(estimate_tokens(above), estimate_tokens(below)) <= whole <= parts <= whole + 1


@given(st.text())
def test_the_estimate_is_no_less_than_half_of_the_bytes(text: str) -> None:
    assert 2 * estimate_tokens(text) >= len(text.encode())


def test_a_service_answers_through_a_model_of_llama_index(data: DataFolder) -> None:
    speaker = Speaker(words=("At low tide", " no ship leaves", " [1]."), window=8192)
    with closing(service_of(data, LlamaBackend(speaker))) as own:
        answer = own.ask("what happens at low tide")
    assert (answer.backend, answer.model) == ("llama-index", "speaker")
    assert len(speaker.asked) == 1
    assert "At low tide no ship leaves." in speaker.asked[0]
    assert answer.citations


# Markdown


def check_split(text: str, *expected: tuple[str, int, int]) -> None:
    """(headings joined by " > ", first line, last line) of each piece."""
    pieces = split_markdown(text)
    assert [(" > ".join(p.headings), p.first_line, p.last_line) for p in pieces] == list(expected)


def lines_of(text: str, piece: MarkdownPiece) -> str:
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return "".join(lines[piece.first_line - 1 : piece.last_line])


markdown_lines = st.one_of(
    st.sampled_from("# A|## B|### C ###|#|# |#no|####### deep|- item|    code|# in code|Title|=====|---".split("|")),
    st.sampled_from(["```", "```cpp", "````", "~~~", "~~~~ sh", "  ```", "      ```", "``` x ` y"]),
    st.sampled_from(["", "   ", "\t", "\r", "# A\r", "\x0c", "\x1c", "\u2028", "。", "One. Another, longer; a third!"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=60),
)
markdown_texts = st.lists(markdown_lines, max_size=40).map("\n".join)


@given(markdown_texts, st.integers(1, 200))
def test_every_line_that_is_not_blank_stands_in_exactly_one_piece_under_its_own_number(text: str, size: int) -> None:
    pieces = split_markdown(text, size)
    covered = [line for piece in pieces for line in range(piece.first_line, piece.last_line + 1)]
    assert covered == sorted(set(covered))
    filled = {number for number, line in enumerate(text.split("\n"), 1) if line.strip()}
    assert filled <= set(covered)
    assert all({piece.first_line, piece.last_line} <= filled for piece in pieces)
    assert all(piece.text == lines_of(text, piece) for piece in pieces)


@given(markdown_texts, st.integers(1, 200))
@example("four\nfives\n\nmore", 10)
def test_a_piece_is_no_larger_than_asked_unless_it_is_one_line(text: str, size: int) -> None:
    for piece in split_markdown(text, size):
        assert len(piece.text) <= size or piece.first_line == piece.last_line


@given(markdown_texts, st.integers(1, 200))
def test_a_smaller_size_never_changes_what_a_line_stands_under(text: str, size: int) -> None:
    whole, cut = (
        {line: p.headings for p in split_markdown(text, s) for line in range(p.first_line, p.last_line + 1)}
        for s in (10**9, size)
    )
    assert all(whole[line] == headings for line, headings in cut.items())


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n~"), max_size=20), max_size=10))
def test_nothing_in_a_fence_is_a_heading(code: list[str]) -> None:
    text = "\n".join(["# Real", "~~~", *code, "~~~", "", "# Next", "end"])
    assume(any(line.strip() for line in code))
    assert [piece.headings for piece in split_markdown(text, 10**9)] == [("Real",), ("Next",)]


def test_a_section_begins_at_its_heading_and_knows_the_headings_above_it() -> None:
    text = "Before.\n\n# Storage\nText.\n\n## Cache ##\n\nMore.\n### Sizes/limits\nx\n# Other\ny\n"
    check_split(
        text,
        ("", 1, 1),
        ("Storage", 3, 4),
        ("Storage > Cache", 6, 8),
        ("Storage > Cache > Sizes/limits", 9, 10),
        ("Other", 11, 12),
    )


def test_headings_right_below_each_other_share_a_piece_and_siblings_do_not() -> None:
    check_split("# A\n\n## B\n### C\ntext\n## D\n\n## E\nend", ("A > B > C", 1, 5), ("A > D", 6, 6), ("A > E", 8, 9))


def test_a_line_above_the_first_heading_is_not_put_below_it() -> None:
    check_split("Note.\n# A\ntext", ("", 1, 1), ("A", 2, 3))


def test_an_inner_fence_does_not_end_the_outer_one() -> None:
    check_split("# A\n````\n```\n# no heading\n```\n````\n# B\nx", ("A", 1, 6), ("B", 7, 8))


def test_fences_in_lists_do_not_swallow_the_headings_below() -> None:
    check_split("# A\n1. do\n\n    ```sh\n    # a comment\n    ```\n# B\nx", ("A", 1, 6), ("B", 7, 8))


def test_backticks_in_indented_code_open_no_fence() -> None:
    check_split("# A\n\n        ```\n\n# B\nx", ("A", 1, 3), ("B", 5, 6))


def test_a_long_section_is_cut_between_paragraphs_and_a_long_line_never() -> None:
    paragraph = "word " * 30
    text = "# A\n\n" + "\n\n".join([paragraph] * 6) + "\n\n" + "x" * 900 + "\n\nend\n"
    pieces = split_markdown(text, 400)
    assert [(p.first_line, p.last_line) for p in pieces] == [(1, 5), (7, 9), (11, 13), (15, 15), (17, 17)]
    assert {piece.headings for piece in pieces} == {("A",)}


@pytest.mark.parametrize("text", ["", "\n", "  \n\t\n"])
def test_a_blank_text_has_no_pieces(text: str) -> None:
    assert split_markdown(text) == ()


# The network


def test_neither_importing_nor_using_it_ever_looks_for_the_network(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", {**TREE})
    code = f"""
import socket
tried = []
def refuse(*arguments, **_):
    tried.append(arguments)
    raise OSError("the network is shut")
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
from contextlib import closing
from pathlib import Path
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.llama import HubQueryEngine, HubRetriever, LlamaBackend, split_markdown
from hub.model import GenerationOptions, Prompt
from hub.service import AskOptions, Service
from indexer.index import DataFolder, Index
from llama_index.core.llms import MockLLM
from tests.support.trees import index_of
folder = Path({str(tmp_path)!r})
if __name__ == "__main__":
    index_of(folder / "tree", folder / "data")
    index = Index.for_reading(DataFolder(folder / "data"), "w")
    with closing(Service(index, list, EvidenceOnlyBackend, AskOptions())) as service:
        assert HubRetriever(service, 2).retrieve("low tide")
        assert HubQueryEngine(service).query("what happens at low tide").source_nodes
    backend = LlamaBackend(MockLLM(max_tokens=3))
    assert backend.count_tokens("text") and backend.info()
    assert list(backend.stream(Prompt("", "x", (), (), 1), GenerationOptions(max_tokens=8)))
    assert len(split_markdown("# A\\n\\n" + "One sentence. Another. " * 20 + "\\n\\n" + "More. " * 200, 300)) > 1
    import sys
    print(tried, sorted({{"nltk", "tiktoken", "openai"}} & set(sys.modules)))
"""
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[] []"), done.stderr
