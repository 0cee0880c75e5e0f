"""Facts hidden in C++, and whether a model still finds them: at several depths of several contexts.

One text holds a fact at every depth, all of the same form, so that each is a distractor for the others and the text is
read once. Each is asked for twice: in words, where only exactly the hidden value counts, and as a choice among the
values that are there, where even a model too small to answer well shows what it has read. What guessing would find is
one of the candidates. Retrieval of this kind is the easiest thing that long context is for: NoLiMa (2025) and RULER
(2024) show that models lose harder tasks at a fraction of the length up to which they pass this one.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from hub.measuring.engine import Tell
from hub.measuring.model import NeedleCell
from hub.measuring.steps import RESERVE_TOKENS, SYSTEM, Asked, ask
from hub.measuring.text import Filler
from hub.model import Backend, GenerationOptions, TokenLogprob

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Facts of one depth and context. One tells little: with two of five candidates guessing finds both in 4% of cases.
FACTS_A_DEPTH = 3
# Tokens of an answer: a number of four digits is at most four, a short sentence around it some ten more.
ANSWER_TOKENS = 20
# Of a choice, which repeats the line of code up to the value.
CHOICE_TOKENS = 48
# Of each token the likeliest ones that are looked at; more than 20 no engine tells.
ALTERNATIVES = 20
# Lines to look ahead for an empty one, so that a fact stands between functions rather than inside one.
LOOK_AHEAD_LINES = 60

_FIRST = "Amber Basalt Cedar Delta Ember Fjord Garnet Harbor Indigo Juniper Kestrel Lagoon Marble Nimbus Opal".split()
_SECOND = "Lease Shard Ticket Anchor Ledger Beacon Parcel Signal Mirror Bundle".split()
_LINE = "constexpr int {name}() {{ return {value}; }}"
_FACT = f"""\
// Agreed with the operators: how many {{second_low}}s the {{first_low}} pool may hold at once.
{_LINE}

"""
_NUMBER = re.compile(r"\d(?:[\d,_']{0,12}\d)?")


@dataclass(frozen=True, slots=True)
class Fact:
    """A function and what it returns. ``candidates`` are the values of its group, its own among them."""

    name: str
    value: int
    depth: float
    candidates: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class NeedleStep:
    """What to hide in which context."""

    pieces: tuple[str, ...]
    context: int
    depths: tuple[float, ...] = DEPTHS
    facts_a_depth: int = FACTS_A_DEPTH
    salt: str = ""


def facts(context: int, depths: Sequence[float], facts_a_depth: int) -> tuple[Fact, ...]:
    """Facts in groups of one a depth. Values of a group differ in their first digit, by which a choice is made."""
    made: list[Fact] = []
    for group in range(facts_a_depth):
        dice = blake2b(f"{context}/{group}".encode(), digest_size=32).digest()
        digits = _shuffled(range(2, 10), dice)[: len(depths)]
        values = tuple(digit * 1000 + dice[place] * 3 + group for place, digit in enumerate(digits))
        for place, (depth, value) in enumerate(zip(depths, values, strict=True)):
            number = group * len(depths) + place
            first = _FIRST[number % len(_FIRST)]
            second = _SECOND[(number // len(_FIRST) + 2 * number) % len(_SECOND)]  # no pair twice among 150
            name = f"{first}{second}Limit"
            text = _FACT.format(name=name, value=value, first_low=first.lower(), second_low=second.lower())
            made.append(Fact(name, value, depth, tuple(sorted(values)), text))
    return tuple(made)


def hide(text: str, hidden: Sequence[Fact]) -> str:
    """The text with each fact at its depth, between two lines, after an empty one where one is near."""
    lines = text.splitlines(keepends=True)
    places: dict[int, list[str]] = {}
    for fact in hidden:
        place = round(fact.depth * len(lines))
        ahead = range(place, min(place + LOOK_AHEAD_LINES, len(lines)))
        if 0 < place < len(lines):
            place = next((number + 1 for number in ahead if not lines[number].strip()), place)
        places.setdefault(place, []).append(fact.text)
    return "".join("".join(places.get(number, ())) + line for number, line in enumerate([*lines, ""]))


def find(backend: Backend, tell: Tell, step: NeedleStep) -> tuple[NeedleCell, ...]:
    """Hides and asks: a cell for each depth. Raises BackendError, and ValueError for more than eight depths."""
    hidden = facts(step.context, step.depths, step.facts_a_depth)
    taken = sum(backend.count_tokens(fact.text) for fact in hidden)
    taken += backend.count_tokens(SYSTEM) + max(backend.count_tokens(_question(fact)) for fact in hidden)
    room = step.context - CHOICE_TOKENS - RESERVE_TOKENS - taken
    text = step.salt + hide(Filler(step.pieces, backend.count_tokens).fill(max(room, 0)), hidden)
    can = backend.capabilities()
    logprobs = ALTERNATIVES if can.logprobs else None
    answers: list[tuple[Fact, bool, int | None, float | None]] = []
    for number, fact in enumerate(hidden):
        question = _question(fact)
        free = ask(
            backend,
            tell if not number else _silent,
            text,
            question,
            GenerationOptions(max_tokens=ANSWER_TOKENS, logprobs=logprobs),
        )
        choice = free
        if can.json_schema:
            # The name again, right before the value: what a small model has read shows in how it goes on.
            lines = [_LINE.format(name=fact.name, value=value) for value in fact.candidates]
            schema = json.dumps({"enum": lines})
            options = GenerationOptions(max_tokens=CHOICE_TOKENS, logprobs=logprobs, json_schema=schema)
            choice = ask(backend, _silent, text, question, options)
        answers.append(
            (fact, recalled(free, fact), _chosen(choice, fact) if can.json_schema else None, rank(choice, fact))
        )
        tell(number + 1, len(hidden))
    return tuple(_cells(step, answers))


def _question(fact: Fact) -> str:
    return f"What number does {fact.name}() return? Answer with the number only."


def recalled(answer: Asked, fact: Fact) -> bool:
    """Whether the first number of the answer is the hidden value."""
    return _first_number(answer.text) == fact.value


def rank(answer: Asked, fact: Fact) -> float | None:
    """The place of the right value among the candidates by probability, 1 for the likeliest; None without a number.

    Candidates that are not among the likeliest tokens share the places behind those that are.
    """
    for token in answer.logprobs:
        if token.token.strip()[:1].isdigit():
            return _rank(token, fact)
    return None


def _rank(token: TokenLogprob, fact: Fact) -> float:
    told = dict(token.alternatives)
    told.setdefault(token.token, token.logprob)
    seen: dict[int, float] = {}
    for text, logprob in told.items():
        digits = text.strip()
        if digits.isdigit():
            for candidate in fact.candidates:
                if str(candidate).startswith(digits):
                    seen[candidate] = max(seen.get(candidate, logprob), logprob)
    if fact.value in seen:
        return 1.0 + sum(logprob > seen[fact.value] for logprob in seen.values())
    unseen = len(fact.candidates) - len(seen)
    return len(seen) + (unseen + 1) / 2


def _chosen(answer: Asked, fact: Fact) -> int:
    return int(_first_number(answer.text) == fact.value)


def _first_number(text: str) -> int | None:
    found = _NUMBER.search(text)
    return int(re.sub(r"\D", "", found.group())) if found else None


def _cells(step: NeedleStep, answers: Sequence[tuple[Fact, bool, int | None, float | None]]) -> Iterator[NeedleCell]:
    for depth in step.depths:
        here = [answer for answer in answers if answer[0].depth == depth]
        chosen = [choice for _, _, choice, _ in here if choice is not None]
        ranks = [place for *_, place in here if place is not None]
        yield NeedleCell(
            step.context,
            depth,
            len(here),
            sum(right for _, right, _, _ in here),
            sum(chosen) if len(chosen) == len(here) else None,
            sum(ranks) / len(ranks) if ranks else None,
            len(step.depths),
        )


def _shuffled(numbers: Sequence[int], dice: bytes) -> list[int]:
    return [number for _, number in sorted(zip(dice, numbers, strict=False))]


def _silent(_done: int, _of: int) -> None:
    """Prompts that are there already are read too soon to be told."""
