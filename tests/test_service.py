"""The service over a small real index, with backends that follow a script; and the JSON shapes of what it returns."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hub import shapes
from hub.asking import WIDE_TOKENS
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.errors import (
    BackendBusy,
    BackendError,
    BackendUnavailable,
    BrokenStream,
    ModelMissing,
    PromptTooLong,
)
from hub.model import (
    Answer,
    Backend,
    BackendInfo,
    Completion,
    Event,
    Found,
    Moved,
    Piece,
    Reading,
    SignalSource,
    Tier,
    Usage,
)
from hub.service import AskOptions, Service
from indexer.errors import EmbedderError
from indexer.index import DataFolder, Index
from indexer.model import Embedder, Span, SymbolKind
from indexer.pipeline import EmbedderSource
from tests.support.fake_embedder import FakeEmbedder
from tests.support.library import LIBRARY, ScriptedBackend, library_index, spoken
from tests.support.trees import COUNTER, index_of, write_tree

QUESTION = "When is the oldest entry evicted?"
GOOD = "`EvictOldest` lowers `capacity_` [1]. The oldest entry goes first [2]."
ERRORS = [
    BackendError("The model said no.", "Ask it why."),
    BackendUnavailable("Nothing listens.", "Start it."),
    ModelMissing("The model is not there.", "Pull it."),
    BackendBusy("The queue is full.", "Try again."),
    PromptTooLong("The prompt is too long.", "Ask for less."),
    BrokenStream("The stream broke.", "Look at the log."),
]
each_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("service")
    with library_index(folder, EmbedderSource(FakeEmbedder().name, FakeEmbedder)):
        yield folder


def made(folder: Path, backend: Callable[[], Backend], options: AskOptions | None = None) -> Service:
    times = iter(range(1000))
    index = Index.for_reading(DataFolder(folder / "data"), "w")
    return Service(index, lambda: [FakeEmbedder()], backend, options or AskOptions(), lambda: next(times) / 4)


def ask(
    folder: Path,
    backend: Backend,
    question: str = QUESTION,
    tier: Tier | None = None,
    options: AskOptions | None = None,
) -> tuple[Answer, list[Event]]:
    """The answer and the events on its way; whatever was written, the pieces joined are the answer's text."""
    events: list[Event] = []
    service = made(folder, lambda: backend, options)
    try:
        answer = service.ask(question, tier, events.append)
    finally:
        service.close()
    moves = [number for number, event in enumerate(events) if isinstance(event, Moved)]
    last = events[moves[-1] + 1 if moves else 0 :]
    assert "".join(event.text for event in last if isinstance(event, Piece)) == answer.text
    assert isinstance(last[0], Found)
    labels = {citation.label for citation in answer.citations}
    assert len(labels) == len(answer.citations)
    for citation in answer.citations:
        assert f"[{citation.label}]" in answer.text or f", {citation.label}]" in answer.text
        lines = str(LIBRARY[citation.span.path]).split("\n")
        assert 1 <= citation.span.first_line <= citation.span.last_line <= len(lines)
    return answer, events


def quotes_the_evidence(answer: Answer) -> bool:
    """Whether the text has the lines of each citation, but those of the model's own words, below its heading."""
    blocks = answer.text.partition("The evidence itself:")[2] or answer.text
    labels = {int(label) for label in re.findall(r"\[(\d+)\]", blocks)}
    for citation in answer.citations:
        lines = str(LIBRARY[citation.span.path]).split("\n")[citation.span.first_line - 1 : citation.span.last_line]
        quoted = "\n".join(f"    {line}".rstrip() for line in lines)
        if (
            citation.label in labels
            and f"[{citation.label}] {citation.span} — {citation.symbol}\n{quoted}" not in blocks
        ):
            return False
    return bool(labels)


# A model that answers


def test_a_grounded_answer_is_shown_as_written_with_the_citations_it_uses(folder: Path) -> None:
    backend = ScriptedBackend(*spoken(GOOD, Usage(321, 12, 7)))
    answer, events = ask(folder, backend)
    assert answer.text == GOOD
    assert [citation.label for citation in answer.citations] == [1, 2]
    assert answer.citations == backend.prompts[0].citations[:2]
    assert (answer.tier, answer.tried, answer.notes) == (Tier.RAG, (Tier.EXACT, Tier.RAG), ())
    assert (answer.backend, answer.model, answer.usage) == ("scripted", "parrot", Usage(321, 12, 7))
    assert (answer.question, answer.workspace, answer.declined) == (QUESTION, "w", False)
    assert 0 < sum(attempt.seconds for attempt in answer.attempts) < answer.seconds
    assert [type(event) for event in events[:2]] == [Found, Reading]
    assert events[1] == Reading("scripted", "parrot", backend.prompts[0].tokens)
    assert backend.open_streams == 0
    assert backend.closed


def test_a_sentence_is_told_before_the_next_one_is_read(folder: Path) -> None:
    backend = ScriptedBackend(*spoken(GOOD))
    said_at: list[int] = []
    service = made(folder, lambda: backend)
    service.ask(QUESTION, None, lambda event: said_at.append(backend.said) if isinstance(event, Piece) else None)
    service.close()
    assert len(said_at) == 2
    assert said_at[0] < len(spoken(GOOD)) - 3


def test_labels_that_were_not_in_the_prompt_are_removed_and_noted(folder: Path) -> None:
    answer, _ = ask(folder, ScriptedBackend(*spoken("It is so [1, 78]. It is not so [99].")))
    assert answer.text == "It is so [1]. It is not so."
    assert answer.notes == ("Removed citations that were not in the prompt: [78], [99].",)


def test_an_answer_that_reached_its_limit_says_so(folder: Path) -> None:
    end = Completion("", Usage(), finish="length")
    answer, _ = ask(folder, ScriptedBackend("It is so [1]", end), options=AskOptions(answer_tokens=55))
    assert answer.text == "It is so [1]"
    assert answer.notes == ("The model's text ends at the limit of 55 tokens.",)


@pytest.mark.parametrize(
    ("text", "kept", "reason"),
    [
        ("It is so [1]. It calls `Vanish` [2]. More [1].", "It is so [1].", "it names Vanish, which stands nowhere"),
        ("It is so and not so [1]. It is so and not so [1]. ", "It is so and not so [1].", "it repeats itself"),
        ("It calls `Vanish` [2]. And so on.", "", "it names Vanish, which stands nowhere"),
        ("It is so. I think.", "It is so. I think.", "it cites no evidence"),
        ("", "", "it cites no evidence"),
    ],
)
def test_a_text_that_fails_its_checks_ends_there_and_the_evidence_follows(
    folder: Path, text: str, kept: str, reason: str
) -> None:
    backend = ScriptedBackend(*spoken(text + " And much more." * (text not in {"", kept})))
    answer, _ = ask(folder, backend)
    assert answer.text.startswith(f"{kept}\n\nThe evidence itself:\n\n" if kept else "")
    assert kept or not answer.text.startswith("\n")
    assert "Vanish" not in answer.text
    assert "void Cache::EvictOldest() {" in answer.text
    assert len(answer.notes) == 1
    assert reason in answer.notes[0]
    assert backend.open_streams == 0
    if kept != text:
        assert backend.said < len(spoken(text)) + 2  # it was stopped, not read to its end


def test_a_label_before_a_fault_is_cited_beside_the_quotes(folder: Path) -> None:
    answer, _ = ask(folder, ScriptedBackend(*spoken("It is so [1]. And so on [5]. It calls `Vanish` [2].")))
    assert 5 in {citation.label for citation in answer.citations}
    assert answer.text.startswith("It is so [1]. And so on [5].\n\nThe evidence itself:")


# A model that fails


@each_error
def test_a_backend_that_cannot_be_made_leaves_a_note_and_the_evidence(folder: Path, error: BackendError) -> None:
    def none() -> Backend:
        raise error

    service = made(folder, none)
    answer = service.ask(QUESTION)
    service.close()
    assert answer.notes[0] == f"{error.message} {error.hint}"
    assert quotes_the_evidence(answer)
    assert (answer.backend, answer.tier) == ("evidence only", Tier.RAG)


@each_error
def test_a_backend_that_does_not_tell_what_it_is_leaves_a_note_and_the_evidence(
    folder: Path, error: BackendError
) -> None:
    answer, _ = ask(folder, ScriptedBackend(info=error))
    assert answer.notes[0] == f"{error.message} {error.hint}"
    assert quotes_the_evidence(answer)
    assert answer.backend == "evidence only"


@each_error
def test_a_backend_that_cannot_count_leaves_a_note_and_the_evidence(folder: Path, error: BackendError) -> None:
    class Uncounting(ScriptedBackend):
        def count_tokens(self, text: str) -> int:  # noqa: ARG002 - the protocol's
            raise error

    answer, _ = ask(folder, Uncounting(*spoken(GOOD)))
    assert answer.notes[0] == f"{error.message} {error.hint}"
    assert quotes_the_evidence(answer)


@each_error
def test_a_backend_that_refuses_the_prompt_leaves_a_note_and_the_evidence(folder: Path, error: BackendError) -> None:
    answer, _ = ask(folder, ScriptedBackend(*spoken(GOOD), refuses=error))
    assert answer.notes[0] == f"{error.message} {error.hint}"
    assert "it broke off" in answer.notes[1]
    assert quotes_the_evidence(answer)


@each_error
@pytest.mark.parametrize("said", [[], ["It is so [1]. And th"]], ids=["before the first word", "half-way"])
def test_a_backend_that_breaks_off_leaves_what_it_said_a_note_and_the_evidence(
    folder: Path, error: BackendError, said: list[str]
) -> None:
    backend = ScriptedBackend(*said, error, "and more [1].")
    answer, _ = ask(folder, backend)
    assert answer.text.startswith("It is so [1].\n\nThe evidence itself:\n\n" if said else "")
    assert answer.notes[0] == f"{error.message} {error.hint}"
    assert "And th" not in answer.text.split("The evidence itself")[0]
    assert "and more" not in answer.text
    assert quotes_the_evidence(answer)
    assert backend.open_streams == 0


def test_the_next_question_finds_the_same_backend(folder: Path) -> None:
    backends: list[ScriptedBackend] = []

    def one_more() -> ScriptedBackend:
        backends.append(ScriptedBackend(*spoken(GOOD)))
        return backends[-1]

    service = made(folder, one_more)
    assert service.ask(QUESTION).text == service.ask(QUESTION).text == GOOD
    service.close()
    assert len(backends) == 1
    assert backends[0].closed


# No model, and a tiny one


def test_without_a_model_the_evidence_is_the_answer_and_nothing_is_withheld(folder: Path) -> None:
    answer, events = ask(folder, EvidenceOnlyBackend())
    assert quotes_the_evidence(answer)
    told = (
        "The entry that was read longest ago",
        "Throws the oldest entry out",
        "EvictOldest must throw the oldest entry",
    )
    assert answer.text.startswith(told)
    assert answer.notes == ()
    assert not any(isinstance(event, Reading) for event in events)


TINY = BackendInfo("embedded", "tiny", context_window=8_192, prompt_tokens=4_096, evidence_first=True)


def test_a_tiny_models_text_follows_the_evidence_if_all_of_it_passes(folder: Path) -> None:
    plain, _ = ask(folder, EvidenceOnlyBackend())
    tiny = ScriptedBackend(*spoken("The oldest entry goes first [1]. So it is [1]."), info=TINY)
    answer, events = ask(folder, tiny)
    evidence, _, words = answer.text.partition("\n\nIn the model's words: ")
    assert words == "The oldest entry goes first [1]. So it is [1]."
    assert evidence == plain.text
    assert answer.citations == plain.citations
    assert answer.notes == ()
    assert isinstance(events[1], Piece)  # the evidence is there before the model reads
    assert isinstance(events[2], Reading)


@pytest.mark.parametrize("text", ["It is so [1]. It calls `Vanish`.", "It is so.", ""])
def test_a_tiny_models_text_is_left_out_if_any_of_it_fails(folder: Path, text: str) -> None:
    plain, _ = ask(folder, EvidenceOnlyBackend())
    answer, _ = ask(folder, ScriptedBackend(*spoken(text), info=TINY))
    assert (answer.text, answer.citations) == (plain.text, plain.citations)
    assert len(answer.notes) == 1
    assert answer.notes[0].startswith("The model's text is left out: it ")


def test_a_tiny_model_that_breaks_leaves_the_evidence_and_a_note(folder: Path) -> None:
    plain, _ = ask(folder, EvidenceOnlyBackend())
    answer, _ = ask(folder, ScriptedBackend("It is so [1]. ", ERRORS[-1], info=TINY))
    assert answer.text == plain.text
    assert answer.notes[0] == "The stream broke. Look at the log."


# Tiers and budgets


def test_a_plain_question_is_answered_from_the_tables_without_a_model(folder: Path) -> None:
    backend = ScriptedBackend()
    for question in ("Where is EvictOldest defined?", "EvictOldest"):
        answer, events = ask(folder, backend, question)
        assert (answer.tier, answer.tried, answer.backend) == (Tier.EXACT, (Tier.EXACT,), "symbol table")
        assert answer.citations[0].span.path == "src/cache.cc"
        assert events[0] == Found(answer.citations, answer.confidence)
    assert backend.prompts == []


def test_tier_exact_declines_what_the_tables_do_not_answer(folder: Path) -> None:
    answer, _ = ask(folder, ScriptedBackend(*spoken(GOOD)), tier=Tier.EXACT)
    assert answer.declined
    assert answer.tried == (Tier.EXACT,)
    assert answer.text.startswith("Not found. The tables alone do not answer this; another tier may.\n")


def test_tier_rag_does_not_ask_the_tables(folder: Path) -> None:
    answer, _ = ask(folder, ScriptedBackend(*spoken(GOOD)), "Where is EvictOldest defined?", Tier.RAG)
    assert (answer.tier, answer.tried, answer.text) == (Tier.RAG, (Tier.RAG,), GOOD)


def test_tier_wide_offers_the_model_more_than_it_reads_soon(folder: Path) -> None:
    info = BackendInfo("scripted", "parrot", context_window=64_000, prompt_tokens=400)
    narrow, wide = ScriptedBackend(*spoken(GOOD), info=info), ScriptedBackend(*spoken(GOOD), info=info)
    ask(folder, narrow, tier=Tier.RAG)
    answer, _ = ask(folder, wide, tier=Tier.WIDE)
    assert (answer.tier, answer.tried) == (Tier.WIDE, (Tier.WIDE,))
    assert narrow.prompts[0].tokens <= 400 < wide.prompts[0].tokens <= WIDE_TOKENS
    assert not wide.prompts[0].dropped


def test_a_prompt_leaves_room_for_the_answer_in_the_window(folder: Path) -> None:
    info = BackendInfo("scripted", "parrot", context_window=900, prompt_tokens=5_000)
    for tier in (Tier.RAG, Tier.WIDE):
        backend = ScriptedBackend(*spoken(GOOD), info=info)
        answer, _ = ask(folder, backend, tier=tier, options=AskOptions(prompt_tokens=4_000, answer_tokens=600))
        assert backend.prompts[0].tokens <= 300
        assert backend.options[0].max_tokens == 600
        assert answer.notes[0].startswith(f"The prompt of {backend.prompts[0].tokens} tokens has no room for all: ")


def test_a_model_too_small_for_any_evidence_is_not_asked_and_the_evidence_is_quoted(folder: Path) -> None:
    info = BackendInfo("scripted", "parrot", context_window=883, prompt_tokens=115)
    backend = ScriptedBackend(*spoken(GOOD), info=info)
    answer, _ = ask(folder, backend)
    assert backend.prompts == []
    assert answer.notes[0].startswith("No piece of evidence fits a prompt of 115 tokens.")
    assert quotes_the_evidence(answer)


def test_a_question_too_long_for_the_model_is_answered_by_the_evidence(folder: Path) -> None:
    question = f"{QUESTION} {'please ' * 400}"
    backend = ScriptedBackend(*spoken(GOOD), info=BackendInfo("scripted", "parrot", 1_100, 5_000))
    answer, _ = ask(folder, backend, question)
    assert backend.prompts == []
    assert answer.notes[0].startswith("The question alone takes ")
    assert quotes_the_evidence(answer)


def test_a_question_too_long_for_everything_is_refused_with_a_way_out(folder: Path) -> None:
    with pytest.raises(PromptTooLong, match="The question alone takes") as refusal:
        ask(folder, ScriptedBackend(*spoken(GOOD)), f"{QUESTION} {'please ' * 30_000}")
    assert refusal.value.hint


def test_what_cannot_be_answered_is_declined_without_asking_the_model(folder: Path) -> None:
    for question in ("How do I bake bread?", "What does Cache::Vanish do?", "vanish_now"):
        backend = ScriptedBackend(*spoken(GOOD))
        answer, events = ask(folder, backend, question)
        assert answer.declined
        assert (answer.tier, answer.citations, answer.backend, answer.model) == (Tier.NONE, (), "none", "none")
        assert answer.text.partition("\n")[0] == f"Not found. {' '.join(answer.confidence.reasons)}"
        assert answer.refusal is not None
        assert answer.refusal.remedies
        assert "vanish_now" not in question or "The name vanish_now stands nowhere" in answer.text
        assert [type(event) for event in events] == [Found, Piece]
        assert backend.prompts == []


# Age


def test_an_answer_from_a_changed_file_says_so_and_so_does_a_search(tmp_path: Path) -> None:
    with library_index(tmp_path):
        pass
    file = tmp_path / "tree" / "src" / "cache.cc"
    file.write_text(file.read_text(encoding="utf-8") + "// one more line\n", encoding="utf-8")
    note = "Changed since it was indexed: src/cache.cc. Run `codehub index` to refresh."
    assert note in ask(tmp_path, ScriptedBackend(*spoken(GOOD)))[0].notes
    assert note in ask(tmp_path, ScriptedBackend(), "Where is EvictOldest defined?")[0].notes
    service = made(tmp_path, EvidenceOnlyBackend)
    assert note in service.search("oldest entry", 5).notes
    assert service.search("Increment value", 1).notes == ()
    service.close()


# Search and relations


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    service = made(folder, EvidenceOnlyBackend)
    yield service
    service.close()


def test_a_search_returns_as_many_hits_as_asked_with_one_confidence(service: Service) -> None:
    few, many = service.search("oldest entry", 2), service.search("oldest entry", 100)
    assert len(few.hits) == 2
    assert few.hits == many.hits[:2]
    assert few.confidence == many.confidence


def test_the_embedder_is_loaded_once_and_only_if_the_index_holds_vectors(folder: Path, tmp_path: Path) -> None:
    loaded: list[FakeEmbedder] = []

    def load() -> Sequence[Embedder]:
        loaded.append(FakeEmbedder())
        return loaded[-1:]

    with library_index(tmp_path):
        pass
    for data, times in ((folder / "data", 1), (tmp_path / "data", 0)):
        loaded.clear()
        service = Service(Index.for_reading(DataFolder(data), "w"), load, EvidenceOnlyBackend, AskOptions())
        service.search("oldest entry", 2)
        service.search("oldest entry", 2)
        service.symbols("Cache", 5)
        service.close()
        assert len(loaded) == times


def test_relations_hold_all_edges_of_a_name_and_those_of_an_unknown_name_by_name(service: Service) -> None:
    assert [(edge.path, edge.line) for edge in service.callers("EvictOldest").edges] == [
        ("src/cache.cc", 6),
        ("tests/cache_test.cc", 8),
    ]
    called = {"app::Counter", "app::Counter::Increment", "app::Counter::value"}
    assert {edge.target for edge in service.callees("main").edges} == called
    assert "tests/cache_test.cc" in {edge.path for edge in service.references("app::Counter").edges}
    outside = service.references("std::string")
    assert outside.symbols == ()
    assert {edge.how.value for edge in outside.edges} == {"by-name"}
    assert service.references("Vanish").edges == ()


# JSON: the promised keys, and what is in them

SYMBOL = {"id", "qualified_name", "kind", "signature", "path", "first_line", "last_line", "is_definition", "doc"}
EDGE = {"kind", "path", "line", "inside", "target", "how"}
HIT = {"path", "first_line", "last_line", "symbol", "kind", "title", "score", "signals", "text"}
SEARCH = {"query", "workspace", "stamp", "confidence", "hits"}
ASK = {"answer", "citations", "confidence", "tier", "tried", "backend", "model", "usage", "seconds", "stamp"}
STAMP = {"commit", "dirty", "indexed_at"}


def sent(shape: shapes.Json) -> shapes.Json:
    """The shape as it arrives; asserts that nothing was lost on the way."""
    arrived: shapes.Json = json.loads(json.dumps(shape, allow_nan=False))
    assert arrived == shape
    return arrived


def test_a_search_has_its_promised_shape(service: Service) -> None:
    shape = sent(shapes.search_shape(service.search("oldest entry", 3)))
    assert shape.keys() >= SEARCH
    assert shape["stamp"].keys() >= STAMP
    assert shape["confidence"].keys() >= {"value", "tier", "reasons"}
    assert len(shape["hits"]) == len(shape["files"]) == 3
    assert shape["understood"].keys() >= {"kind", "words", "names", "unknown", "paste", "found", "weights", "origin"}
    assert shape["understood"]["words"].keys() == {"oldest", "entry"}
    for one in shape["hits"]:
        assert one.keys() >= HIT
        lines = str(LIBRARY[one["path"]]).split("\n")[one["first_line"] - 1 : one["last_line"]]
        assert one["text"].rstrip("\n") == "\n".join(lines).rstrip("\n")
        assert one["signals"].keys() == one["raw"].keys() <= {source.value for source in SignalSource}
        assert one["score"] == pytest.approx(sum(one["contributions"].values()), abs=1e-5)


def test_symbols_have_their_promised_shape(service: Service) -> None:
    (definition, declaration) = service.symbols("EvictOldest", 5)
    shape = sent(shapes.symbol_shape(definition))
    assert shape.keys() >= SYMBOL
    assert (shape["qualified_name"], shape["kind"], shape["path"]) == (
        "app::Cache::EvictOldest",
        SymbolKind.METHOD.value,
        "src/cache.cc",
    )
    assert sent(shapes.symbol_shape(declaration))["id"] == shape["id"]


def test_relations_have_their_promised_shape(service: Service) -> None:
    shape = sent(shapes.relations_shape(service.callers("EvictOldest")))
    assert [edge.keys() >= EDGE for edge in shape["edges"]] == [True, True]
    assert shape["edges"][0]["inside"] == "app::Cache::~Cache"


def test_an_export_names_the_source_of_every_edge(folder: Path) -> None:
    with Index.for_reading(DataFolder(folder / "data"), "w") as index:
        lines = [sent(line) for line in shapes.export_shapes(index.facts.all_symbols(), index.facts.all_edges())]
    symbols, edges = ([line for line in lines if line["type"] == kind] for kind in ("symbol", "edge"))
    assert symbols + edges == lines
    assert all(line.keys() >= SYMBOL | {"type"} for line in symbols)
    promised = (EDGE - {"inside"}) | {"type", "source", "source_id", "target_id", "candidates"}
    assert all(line.keys() >= promised and line["source"] for line in edges)
    assert {line["source"] for line in edges if line["kind"] == "include"} >= {"src/cache.cc"}


@pytest.mark.parametrize("question", [QUESTION, "EvictOldest", "How do I bake bread?"])
def test_an_answer_has_its_promised_shape_also_when_it_declines(folder: Path, question: str) -> None:
    answer, _ = ask(folder, ScriptedBackend(*spoken(GOOD)), question)
    shape = sent(shapes.answer_shape(answer))
    assert shape.keys() >= ASK
    assert shape["usage"].keys() == {"prompt", "completion", "cached"}
    assert shape["declined"] == (question == "How do I bake bread?") == (shape["tier"] == "none")
    assert all(
        citation.keys() >= {"label", "path", "first_line", "last_line", "symbol"} for citation in shape["citations"]
    )
    assert shape["answer"] == answer.text


def test_an_embedder_that_cannot_be_loaded_costs_only_its_arm_and_is_named(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    index_of(root, tmp_path / "data", EmbedderSource(FakeEmbedder().name, FakeEmbedder))

    def fail() -> list[Embedder]:
        raise EmbedderError("The model is gone.", "Get it back.")

    index = Index.for_reading(DataFolder(tmp_path / "data"), "w")
    service = Service(index, fail, EvidenceOnlyBackend, AskOptions())
    found = service.search("counts things", 5)
    service.close()
    assert found.hits
    assert found.notes == ("Searched without vectors: The model is gone. Get it back.",)


def test_vectors_of_another_model_are_never_compared_with(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    index_of(root, tmp_path / "data", EmbedderSource("other", lambda: FakeEmbedder("other")))
    index = Index.for_reading(DataFolder(tmp_path / "data"), "w")
    service = Service(index, lambda: [FakeEmbedder()], EvidenceOnlyBackend, AskOptions())
    found = service.search("counts things", 5)
    service.close()
    assert found.hits
    assert "there are none of" in found.notes[0]


def test_a_tier_that_nothing_answers_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="no answer comes from tier"):
        ask(folder, ScriptedBackend(), tier=Tier.NONE)


def test_a_code_base_is_not_read_where_none_is_kept(folder: Path) -> None:
    with pytest.raises(BackendUnavailable, match="Nothing keeps the whole code base"):
        ask(folder, ScriptedBackend(), tier=Tier.FULL)


def test_the_lines_of_a_span_are_those_of_the_file(tmp_path: Path) -> None:
    text = "int a;\n\nint b;\r\nint c;"
    root = write_tree(tmp_path / "tree", {"a.cc": text})
    index_of(root, tmp_path / "data")
    service = Service(Index.for_reading(DataFolder(tmp_path / "data"), "w"), list, EvidenceOnlyBackend, AskOptions())
    assert service.lines(Span("a.cc", 2, 4)) == "\nint b;\r\nint c;"
    assert service.lines(Span("a.cc", 1, 99)) == text
    assert not service.lines(Span("b.cc", 1, 2))
    service.close()
