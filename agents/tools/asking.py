"""The tool that answers in words, through the hub's tiers. Knows nothing of models; what is declined stays declined."""

from agents import text
from agents.desk import Desk
from agents.model import Arguments, Call
from agents.parameters import Choice, Text
from agents.tools.model import Tool
from agents.tools.replies import as_json, counted, too_large
from agents.tools.searching import confidence_line
from hub import shapes
from hub.auth.model import Scope
from hub.model import Answer, Event, Found, Moved, Part, Piece, Prefill, Reading, Tier
from hub.prompting import visible

MOST_QUESTION_CHARS = 20_000
ANSWER_TOKENS = text.DEFAULT_TOKENS - 1_500  # the rest is for sources, notes and what is missing
MOST_SOURCES = 20
TIERS = ("auto", *(tier.value for tier in Tier if tier not in (Tier.EXACT, Tier.NONE)))  # exact is tried with each
_TOLD_CHARS = 400  # of an answer, after which it is told again how far it is


class _Telling:
    """Says how far an answer is, as progress."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._written = 0
        self._told = 0

    def event(self, event: Event) -> None:
        match event:
            case Found(citations, confidence):
                files = len({citation.span.path for citation in citations})
                found = counted(len(citations), "piece") + f" of evidence in {counted(files, 'file')}"
                self._say(f"{found}, confidence {confidence.value:.2f}")
            case Reading(_, model, prompt_tokens):
                self._say(f"{model} reads {prompt_tokens} tokens")
            case Prefill(read, total, _):
                self._call.tell("tokens read", float(read), float(total))
            case Part(number, total, tokens, seconds):
                self._say(f"part {number} of {total}, {tokens} tokens left, about {seconds:.0f} s")
            case Moved(_, to, _, cost_s):
                self._written = self._told = 0
                self._say(f"going on in tier {to.value}, about {cost_s:.0f} s")
            case Piece(written):
                self._written += len(written)
                if self._written - self._told >= _TOLD_CHARS:
                    self._told = self._written
                    self._say(f"{self._written} characters written")

    def _say(self, words: str) -> None:
        self._call.tell(words, 0.0, None)


def _ask(desk: Desk, call: Call, arguments: Arguments) -> str:
    tier = None if arguments["tier"] == "auto" else Tier(arguments["tier"])
    with desk.workspaces.opened(call.principal, arguments["workspace"] or None) as service:
        answer = service.ask(arguments["question"], tier, _Telling(call).event, cancelled=call.cancelled)
    if call.as_json:
        written = as_json(shapes.answer_shape(answer))
        if text.tokens(written) > text.MOST_TOKENS:
            raise too_large()
        return written
    return _written(answer)


def _written(answer: Answer) -> str:
    declined = ["Declined: what was found is not enough for an answer."] if answer.declined else []
    parts = [*declined, text.shortened(_said(answer), ANSWER_TOKENS)]
    # The tables write each place beside what stands there; what a model writes is not relied on for that.
    beside = answer.text if answer.tier is Tier.EXACT else ""
    sources = [each for each in answer.citations if f"{text.place(each.span)} " not in beside]
    if sources:
        parts.append("Sources:")
        parts += [
            f"[{each.label}] {text.place(each.span)} {text.one_line(each.symbol)}".rstrip()
            for each in sources[:MOST_SOURCES]
        ]
        if len(sources) > MOST_SOURCES:
            parts.append(f"and {len(sources) - MOST_SOURCES} more")
    parts.append(confidence_line(answer.confidence))
    if answer.confidence.guarantee:
        parts.append(answer.confidence.guarantee)
    parts += [f"Note: {text.one_line(note)}" for note in dict.fromkeys(answer.notes)]
    parts.append(text.stamp_line(answer.workspace, answer.stamp))
    return text.shortened("\n".join(part for part in parts if part), text.DEFAULT_TOKENS)


def _said(answer: Answer) -> str:
    """What is answered. Words of a model stand behind a mark in each line, so that none of them passes for ours."""
    said = visible(answer.text).strip()
    if answer.tier in (Tier.EXACT, Tier.NONE):
        return said
    return "\n".join(f"> {line}".rstrip() for line in said.split("\n"))


ASK = Tool(
    name="ask",
    title="Ask",
    about="An answer in words with citations and confidence, or why there is none. Can take minutes.",
    parameters=(
        Text("question", most=MOST_QUESTION_CHARS, required=True),
        Choice("tier", "", TIERS, "auto"),
        Text("workspace"),
    ),
    scope=Scope.READ,
    read_only=True,
    destructive=False,
    idempotent=True,
    open_world=False,
    run=_ask,
)
