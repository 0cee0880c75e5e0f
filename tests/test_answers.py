"""What an answer betrays, and what its checks make of a confidence."""

from collections.abc import Iterator
from dataclasses import replace
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.answering import Lexicon, Written, write
from hub.claims import NOTHING_KNOWN, Checks, Finding, Told, Truth
from hub.confidence.answers import (
    ALTERNATIVES,
    MOST_LOWERED,
    MOST_RAISED,
    SAYS_UNKNOWN,
    SURE_TOKENS,
    USUAL_LOGPROB,
    Signals,
    probe,
    revise,
    signals,
)
from hub.errors import UnsupportedRequest
from hub.model import (
    BackendInfo,
    Capabilities,
    Completion,
    Confidence,
    GenerationOptions,
    Prompt,
    Streamed,
    Tier,
    TokenLogprob,
    Usage,
)
from indexer.words import words
from tests.support.library import ScriptedBackend, prompt_of, spoken

BEFORE = Confidence(
    0.7, Tier.RAG, ("The first hits hold it.",), (("coverage", 0.9),), calibrated=True, guarantee="Sure."
)
SAID = Signals(sentences=3, cited=1.0)
GOOD = Checks(resolved=2)
EDGE = Finding("A calls B", "`A` calls `B`.", Truth.RIGHT)


def completion(text: str, *tokens: TokenLogprob, finish: str = "stop") -> Completion:
    return Completion(text, Usage(10, 5), finish, tokens)


def tokens(*pairs: tuple[str, float]) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(token, logprob) for token, logprob in pairs)


# Signals


def test_logarithms_are_taken_over_names_and_numbers_only() -> None:
    written = tokens(
        ("It", -9.0), (" calls", -9.0), (" Evict", -0.2), ("Oldest", -0.4), (" ", -9.0), ("12", -0.6), (".", -9.0)
    )
    told = signals("", "It calls EvictOldest 12.", completion("It calls EvictOldest 12.", *written))
    assert told.mean_logprob == pytest.approx(-0.4)
    assert told.least_logprob == -0.6
    assert told.entropy is None


def test_missing_logarithms_are_none_and_change_nothing() -> None:
    told = signals("", "It calls EvictOldest.", completion("It calls EvictOldest."))
    assert (told.mean_logprob, told.least_logprob, told.entropy) == (None, None, None)
    without = revise(BEFORE, GOOD, told)
    usual = Signals(sentences=1, mean_logprob=USUAL_LOGPROB)
    assert without.value == revise(BEFORE, GOOD, usual).value


def test_entropy_counts_what_the_alternatives_leave_as_one_more() -> None:
    even = TokenLogprob("a", log(0.5), (("a", log(0.5)), ("b", log(0.25))))
    sure = TokenLogprob("a", 0.0, (("a", 0.0),))
    assert signals("", "a", completion("a", even)).entropy == pytest.approx(1.5)
    assert signals("", "a", completion("a", sure)).entropy == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "The evidence does not say where `Get` is called.",
        "The provided code doesn't show how it is done.",
        "This cannot be determined from the evidence.",
        "There is not enough information to answer.",
        "I don't know.",
        "There is no mention of eviction.",
        "`Get` is not shown in the evidence.",
    ],
)
def test_a_text_that_says_it_does_not_know_is_noticed(text: str) -> None:
    assert signals("", text, completion(text)).unknown == 1.0
    late = f"`Get` calls `Find` [1]. It returns a string [1]. {text}"
    assert signals("", late, completion(late)).unknown == pytest.approx(1 / 3, abs=1e-3)


@pytest.mark.parametrize(
    "text",
    ["The function does not throw.", "It is not called there.", "It returns false where the key is not found.", "No."],
)
def test_a_text_that_denies_something_is_not_taken_for_one_that_does_not_know(text: str) -> None:
    assert signals("", text, completion(text)).unknown == 0.0


def test_the_share_of_cited_sentences_the_finish_and_the_fault_are_kept() -> None:
    text = "It waits [1]. It calls `a.b` [2]. It ends."
    told = signals("", text, completion(text, finish="length"), "it names Vanish")
    assert told.cited == pytest.approx(2 / 3, abs=1e-3)
    assert (told.sentences, told.finish, told.fault) == (3, "length", "it names Vanish")


def test_an_endless_loop_is_noticed_and_prose_is_not() -> None:
    assert signals("", "the cache evicts the oldest entry of all and then " * 30, completion("")).loops
    prose = " ".join(f"word{number} and then something else" for number in range(60))
    assert not signals("", prose, completion("")).loops
    assert not signals("", "It fails. It fails.", completion("")).loops


@pytest.mark.parametrize(
    ("question", "text", "agrees"),
    [
        ("Does `Get` call `Put`?", "Yes, it does.", True),
        ("`Get` calls `Put`, right?", "Correct.", True),
        ("Does `Get` call `Put`?", "No.", False),
        ("What does `Get` call?", "Yes.", False),
    ],
)
def test_agreement_with_a_question_that_suggests_it_is_noticed(question: str, text: str, agrees: bool) -> None:
    assert signals(question, text, completion(text)).agrees is agrees


# Revision


def test_without_a_text_of_a_model_the_confidence_stays_as_it_is() -> None:
    assert revise(BEFORE, Checks(), Signals()) is BEFORE


def test_a_right_answer_is_a_little_surer_and_says_what_was_confirmed() -> None:
    after = revise(BEFORE, Checks(resolved=2, edges_right=(EDGE, EDGE)), SAID)
    assert BEFORE.value < after.value < 0.9
    assert "The tables confirm 2 relations that the answer states." in after.reasons
    assert dict(after.features)["edges right"] > 0
    assert dict(after.features)["coverage"] == 0.9
    assert (after.tier, after.guarantee, after.calibrated) == (Tier.RAG, "Sure.", False)


@pytest.mark.parametrize(
    ("checks", "told", "reason"),
    [
        (Checks(resolved=1, edges_wrong=(EDGE,)), SAID, "The tables do not show that A calls B."),
        (Checks(resolved=1, names_nowhere=("Vanish",)), SAID, "The answer names what stands nowhere: Vanish."),
        (Checks(resolved=1, quotes_wrong=(EDGE,)), SAID, "Not in the lines cited: A calls B."),
        (Checks(resolved=1, apart=(EDGE,)), SAID, "Cited for what they do not say: A calls B."),
        (Checks(resolved=1, unresolved=("F9:1",)), SAID, "Cited, but not shown to the model: F9:1."),
        (Checks(), SAID, "The answer cites nothing that was shown."),
        (Checks(resolved=1, parts=2, unanswered=("who calls it",)), SAID, "The answer does not touch: who calls it."),
        (GOOD, Signals(sentences=1, unknown=1.0), "The model says that the evidence does not answer."),
        (GOOD, Signals(sentences=1, finish="length"), "The limit of tokens ended the model's text."),
        (GOOD, Signals(sentences=1, loops=True), "The model repeats itself."),
        (GOOD, Signals(sentences=1, fault="it broke off"), "The model's text was ended: it broke off."),
        (
            GOOD,
            Signals(sentences=1, agrees=True),
            "The model agrees with the question, and nothing it says can be looked up.",
        ),
    ],
)
def test_what_is_wrong_with_an_answer_lowers_its_confidence_and_is_said(
    checks: Checks, told: Signals, reason: str
) -> None:
    after = revise(BEFORE, checks, told)
    assert after.value < revise(BEFORE, GOOD, SAID).value
    assert reason in after.reasons
    assert not after.calibrated


def test_sentences_without_a_citation_count_a_little() -> None:
    cited, half = (revise(BEFORE, GOOD, replace(SAID, cited=share)) for share in (1.0, 0.5))
    assert cited.value > half.value


def test_what_was_measured_is_logged_whether_it_counts_or_not() -> None:
    told = replace(SAID, mean_logprob=-0.35, least_logprob=-2.0, entropy=1.5)
    features = dict(revise(BEFORE, GOOD, told).features)
    assert features["entropy of first tokens"] == 1.5
    assert features["least logprob of names"] == -2.0
    assert "entropy of first tokens" not in dict(revise(BEFORE, GOOD, SAID).features)


def test_what_holds_makes_up_for_nothing_that_does_not() -> None:
    wrong = Checks(resolved=2, edges_wrong=(EDGE,))
    both = Checks(resolved=2, edges_wrong=(EDGE,), edges_right=(EDGE,) * 5, quotes_right=(EDGE,))
    assert revise(BEFORE, both, SAID).value == revise(BEFORE, wrong, SAID).value


def test_a_model_that_always_says_yes_gains_nothing_by_it() -> None:
    for question in ("Does `Get` call `Put`?", "Is `Get` a macro?"):
        told = signals(question, "Yes.", completion("Yes."))
        assert revise(BEFORE, Checks(), told).value < BEFORE.value


def test_the_model_that_was_sure_of_its_names_is_believed_a_little_more() -> None:
    sure, unsure = (revise(BEFORE, GOOD, replace(SAID, mean_logprob=mean)) for mean in (-0.01, -3.0))
    assert sure.value > revise(BEFORE, GOOD, SAID).value > unsure.value
    assert odds(sure.value) - odds(unsure.value) == pytest.approx(SURE_TOKENS * (1 + 0.34 / 0.35), abs=0.01)


def odds(value: float) -> float:
    return log(value / (1 - value))


COUNTS = st.integers(0, 6)


@given(st.floats(0, 1), COUNTS, COUNTS, COUNTS, COUNTS, st.floats(-9, 0), st.sampled_from(["stop", "length"]))
def test_a_further_fault_never_raises_a_confidence_and_its_movement_is_bounded(
    value: float, edges: int, names: int, quotes: int, right: int, mean: float, finish: str
) -> None:
    before = Confidence(value, Tier.RAG, ())
    told = Signals(finish=finish, sentences=2, mean_logprob=mean)

    def after(edges: int, names: int, quotes: int) -> float:
        checks = Checks(
            resolved=1,
            edges_wrong=(EDGE,) * edges,
            names_nowhere=("Vanish",) * names,
            quotes_wrong=(EDGE,) * quotes,
            edges_right=(EDGE,) * right,
        )
        return revise(before, checks, told).value

    here = after(edges, names, quotes)
    assert 0 <= here <= 1
    assert (
        max(after(edges + 1, names, quotes), after(edges, names + 1, quotes), after(edges, names, quotes + 1)) <= here
    )
    bounded = min(0.995, max(0.005, value))
    if 0.01 < here < 0.99:  # where four digits are enough to compare
        assert MOST_LOWERED - 0.2 <= odds(here) - odds(bounded) <= MOST_RAISED + 0.2


def test_a_part_of_the_text_that_does_not_know_counts_for_its_share() -> None:
    half = revise(BEFORE, GOOD, replace(SAID, unknown=0.5))
    assert odds(half.value) - odds(revise(BEFORE, GOOD, SAID).value) == pytest.approx(SAYS_UNKNOWN / 2, abs=0.01)


# The probe


class Chooser(ScriptedBackend):
    """Takes the letter of what it believes, or always the same one, with so much of its probability."""

    def __init__(self, choose: str, share: float = 0.9, *, logprobs: bool = True, schema: bool = True) -> None:
        super().__init__(info=BackendInfo("chooser", "m", 8192, 4096))
        self._choose, self._share = choose, share
        self._can = Capabilities(logprobs=logprobs, json_schema=schema)

    def capabilities(self) -> Capabilities:
        return self._can

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        self.options.append(options)
        self.prompts.append(prompt)
        letter = (
            self._choose if len(self._choose) == 1 else "A" if f"A: {self._choose}\n" in f"{prompt.user}\n" else "B"
        )
        other = "B" if letter == "A" else "A"
        ways = ((letter, log(self._share)), (other, log(1 - self._share)))
        listed = (TokenLogprob(letter, log(self._share), ways),) if options.logprobs else ()
        text = letter if options.logprobs else f'"{letter}"'
        return iter([text, Completion(text, Usage(1, 1), logprobs=listed)])


@pytest.mark.parametrize(
    ("chooser", "told"),
    [
        (Chooser("it does"), 0.9),
        (Chooser("it does not"), 0.1),
        (Chooser("A"), 0.5),  # always the first letter says nothing
        (Chooser("B", 0.99), 0.5),
        (Chooser("it does", logprobs=False), 1.0),
        (Chooser("A", logprobs=False), 0.5),
        (Chooser("it does", logprobs=False, schema=False), None),
    ],
)
def test_the_probe_asks_twice_with_the_letters_exchanged(chooser: Chooser, told: float | None) -> None:
    found = probe(chooser, prompt_of("int x;"), "What is x?", GenerationOptions())
    assert found == (told if told is None else pytest.approx(told, abs=1e-3))
    assert len(chooser.prompts) == (0 if told is None else 2)
    for prompt, options in zip(chooser.prompts, chooser.options, strict=True):
        assert prompt.tokens == chooser.count_tokens(prompt.system) + chooser.count_tokens(prompt.user)
        assert (options.logprobs is None) == bool(options.json_schema)


# What an answer carries

EVIDENCE = prompt_of("void Cache::Evict() {\n  Log(1);\n}")
KNOWN = replace(
    NOTHING_KNOWN,
    stands=lambda name: name == "Vanish",
    edge=lambda claim: Told(Truth.RIGHT if claim.object == "Log" else Truth.WRONG),
)
LEXICON = Lexicon([("evict", 1.0)], words, KNOWN.stands, known=KNOWN)


class Telling(ScriptedBackend):
    """Tells logarithms, where it is asked for them."""

    def capabilities(self) -> Capabilities:
        return Capabilities(logprobs=True)


class Refusing(Telling):
    """Says that it tells logarithms, and refuses a request for them."""

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        if options.logprobs is not None:
            self.options.append(options)
            raise UnsupportedRequest("No logprobs here.", "Leave them out.")
        return super().stream(prompt, options)


def test_a_server_that_refuses_to_tell_logarithms_is_asked_without() -> None:
    backend = Refusing(*spoken("`Cache::Evict` calls `Log` [1]."))
    told = written(backend)
    assert (told.text, told.broke, told.notes) == ("`Cache::Evict` calls `Log` [1].", False, [])
    assert [options.logprobs for options in backend.options] == [ALTERNATIVES, None]
    assert not backend.options[0].needs_logprobs
    assert told.signals.mean_logprob is None


def written(backend: ScriptedBackend, *, evidence_first: bool = False) -> Written:
    info = BackendInfo("scripted", "parrot", 32_768, 8_192, evidence_first=evidence_first)
    question = "What does Evict call and who calls it?"
    return write(question, EVIDENCE, LEXICON, backend, info, GenerationOptions(), lambda _event: None)


def test_an_answer_carries_the_checks_and_signals_of_its_text() -> None:
    said = "`Cache::Evict` calls `Log` and `Vanish` [1]. It is an end [3]."
    told = written(ScriptedBackend(*spoken(said)))
    assert [finding.claim for finding in told.checks.edges_right] == ["Cache::Evict calls Log"]
    assert [finding.claim for finding in told.checks.edges_wrong] == ["Cache::Evict calls Vanish"]
    assert (told.checks.resolved, told.checks.unresolved) == (1, ("3",))
    assert told.checks.names_in_repository == ("Vanish",)
    assert (told.signals.sentences, told.signals.fault) == (2, "")
    assert told.completion.text == said


def test_the_sentence_that_ended_a_text_is_checked_with_it() -> None:
    told = written(ScriptedBackend(*spoken("`Evict` calls `Log` [1]. It calls `Ghost` [1]. More.")))
    assert told.checks.names_nowhere == ("Ghost",)
    assert told.signals.fault == "it names Ghost, which stands nowhere in this tree"


@pytest.mark.parametrize(("backend", "asked"), [(Telling, 5), (ScriptedBackend, None)])
def test_logarithms_are_asked_for_where_the_engine_tells_them(
    backend: type[ScriptedBackend], asked: int | None
) -> None:
    scripted = backend(*spoken("`Evict` calls `Log` [1]."))
    written(scripted)
    assert [options.logprobs for options in scripted.options] == [asked]


def test_what_is_not_shown_of_a_tiny_model_says_nothing_of_the_evidence() -> None:
    left_out = written(ScriptedBackend(*spoken("It calls `Ghost`.")), evidence_first=True)
    assert (left_out.checks, left_out.signals) == (Checks(), Signals())
    shown = written(ScriptedBackend(*spoken("`Evict` calls `Log` [1].")), evidence_first=True)
    assert shown.checks.edges_right
    assert shown.signals.sentences == 1


def test_an_engine_that_says_nothing_leaves_nothing_to_check() -> None:
    told = written(ScriptedBackend(Completion("", Usage())))
    assert (told.checks, told.signals) == (Checks(), Signals())
    assert revise(BEFORE, told.checks, told.signals) is BEFORE
