"""How far an answer is to be believed, once it is written: what it asserts was looked up, and what its model betrayed.

Pure but for ``probe``, which asks a model one question. Knows nothing of how the checks are made: their numbers come in
as they are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log, log2

from hub.claims import Checks
from hub.model import Backend, Completion, Confidence, GenerationOptions, Prompt, TokenLogprob

# Log-odds that each observation adds to a confidence. Judgements, ordered by how rarely a right answer shows them; the
# share of right and of corrupted answers that show each is printed by benchmarks/answer_checks.py. Range -6 to 2.
EDGE_WRONG = -2.5  # a call, base, override or place that the tables contradict, for each
NAME_NOWHERE = -2.5  # a name that stands nowhere in the tree, for each
QUOTE_WRONG = -1.4  # code, a string or a number that the cited lines do not hold, for each
CITATION_APART = -0.9  # lines cited for names that they do not hold, for each
CITATION_UNRESOLVED = -0.6  # a citation of what was not shown, for each
NOTHING_CITED = -1.5
UNCITED = -0.4  # for the share of the sentences without a citation, where some have one
EDGE_RIGHT = 0.5  # once, however many
QUOTE_RIGHT = 0.2  # once
ALL_RESOLVED = 0.2  # everything cited was shown
PART_UNANSWERED = -1.2  # all of the question's parts untouched; the share of it for fewer
SAYS_UNKNOWN = -3.0  # the text says that the evidence does not answer; the share of it for a part of its sentences
CUT_SHORT = -0.7  # the limit of tokens ended it
LOOPED = -2.0
STOPPED = -1.5  # a check ended the text before its end, or the engine did
ONLY_AGREES = -0.6  # "yes" to a question that suggests it, with nothing that could be looked up
SURE_TOKENS = 0.4  # for one step of the mean logarithm above what is usual; as much less below
# At most so many of one kind count: the second wrong edge says less than the first, the fifth nothing.
MOST_COUNTED = 3
PROBED = 1.0  # for a probe of 1, as much less for one of 0: models say yes too readily to count for more
# How far all of it together may move a confidence. Nothing here proves an answer right.
MOST_RAISED = 1.0
MOST_LOWERED = -6.0
# Natural logarithms over names and numbers: usual mean and step. Judgements; texts of SmolLM2 had -0.03 to -0.27, and
# those were no better for it. -1 to 0.
USUAL_LOGPROB = -0.35
LOGPROB_STEP = 0.35

FIRST_TOKENS = 20  # tokens at the beginning whose entropy is taken; 5 to 40
ALTERNATIVES = 5  # of each token, asked of the engine; 2 to 20
REPEATED_WORDS = 8  # as in hub.grounding
LOOP_SHARE = 0.3  # 0 to 1; share of runs of words that stood before, from which a text loops

_CLIP = 0.005
_VALUE = re.compile(
    r"[A-Za-z_]\w*(?:(?:::|->|\.)~?\w+)+|[a-z]+[A-Z]\w*|[A-Z][a-z0-9]+[A-Z]\w*|\w*_\w+|[0-9]+|`[^`\n]+`"
)
_LABEL = re.compile(r"\[[0-9][0-9, \t]*\]")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?!\s*\[[0-9])\s+|(?<=\])\s+(?=[A-Z`])|\n+")
_UNKNOWN = re.compile(
    r"\b(?:evidence|context|excerpts?|snippets?|code (?:shown|provided|given)|(?:shown|provided|given) code"
    r"|information|text)\b[^.\n]{0,40}"
    r"\b(?:does|do|did|is|are)(?: not|n't) (?:\w+ )?(?:answer|contain|say|show|mention|provide|include|tell"
    r"|specify|state"
    r"|describe|cover|define|enough|sufficient|clear|shown|provided|available)"
    r"|\b(?:can(?:not|'t| not)|could not|couldn't|unable to|not possible to|impossible to) (?:be )?"
    r"(?:determined?|answer(?:ed)?|tell|say|said|found?|know|known|concluded?|inferred)\b"
    r"|\b(?:do not|don't|does not) (?:know|have (?:enough|sufficient))\b"
    r"|\bnot (?:enough|sufficient) (?:information|evidence|context|detail)|\binsufficient (?:information|evidence"
    r"|context)"
    r"|\b(?:no|without) (?:information|evidence|mention|details?) (?:about|of|on|for|that|in|regarding)\b"
    r"|\b(?:is|are)(?: not|n't) (?:shown|mentioned|given|included|provided|specified|present|visible|defined"
    r"|found) in the "
    r"(?:evidence|context|excerpts?|snippets?|provided|given|code shown)",
    re.IGNORECASE,
)
_LEADING = re.compile(
    r"\s*(?:(?:does|do|did|is|are|was|were|can|could|will|would|has|have|should)\b|"
    r".*\b(?:right|correct|isn't it|doesn't it|is it not|true)\s*\?)",
    re.IGNORECASE | re.DOTALL,
)
_YES = re.compile(
    r"\W*(?:yes|yeah|correct|right|indeed|true|that is (?:right|correct|true)|that's right)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Signals:
    """What a model betrayed while it wrote. Logarithms are None where the engine told none."""

    finish: str = "stop"
    fault: str = ""  # the check that ended the text, "" where none did
    sentences: int = 0
    cited: float = 0.0  # share of the sentences with a citation
    unknown: float = 0.0  # share of the sentences that say the evidence does not answer; 1 where the first one does
    loops: bool = False
    agrees: bool = False  # says yes to a question that suggests it
    mean_logprob: float | None = None  # over the tokens of names and numbers
    least_logprob: float | None = None
    entropy: float | None = None  # bits, mean of the first tokens, at least
    answerable: float | None = None  # what ``probe`` told, where it was asked


def signals(question: str, text: str, completion: Completion, fault: str = "") -> Signals:
    """The signals of a text as it was read from a model, whether it was shown or not."""
    sentences = [sentence for sentence in _SENTENCE_END.split(text) if re.search(r"\w", _LABEL.sub("", sentence))]
    number = max(1, len(sentences))
    doubting = [sentence for sentence in sentences if _UNKNOWN.search(sentence)]
    first = bool(sentences) and doubting[:1] == sentences[:1]
    values = _values(completion.logprobs)
    return Signals(
        completion.finish,
        fault,
        len(sentences),
        round(sum(_LABEL.search(sentence) is not None for sentence in sentences) / number, 4),
        1.0 if first else round(len(doubting) / number, 4),
        _loops(text),
        _LEADING.match(question) is not None and _YES.match(text) is not None,
        round(sum(values) / len(values), 4) if values else None,
        round(min(values), 4) if values else None,
        _entropy(completion.logprobs[:FIRST_TOKENS]),
    )


def revise(confidence: Confidence, checks: Checks, told: Signals) -> Confidence:
    """The confidence that the answer is right, where the one given is that its evidence was shown.

    What was found moves its log-odds by the constants above, and each movement is told as a reason. Without a text of a
    model (no sentences) the confidence stays as it is. A revised value orders answers and is no probability.
    """
    if not told.sentences and not told.fault:
        return confidence
    moves = [move for move in _moves(checks, told) if move[1]]
    total = min(MOST_RAISED, max(MOST_LOWERED, sum(weight for _, weight, _ in moves)))
    odds = log((bounded := min(1 - _CLIP, max(_CLIP, confidence.value))) / (1 - bounded))
    return replace(
        confidence,
        value=round(1 / (1 + exp(-odds - total)), 4),
        reasons=(*confidence.reasons, *(reason for _, _, reason in moves if reason)),
        features=(*confidence.features, *_logged(told), *((name, round(weight, 4)) for name, weight, _ in moves)),
        calibrated=confidence.calibrated and not moves,
        guarantee="" if total < 0 else confidence.guarantee,
    )


def probe(backend: Backend, prompt: Prompt, question: str, options: GenerationOptions) -> float | None:
    """The model's own probability that the evidence of ``prompt`` answers the question; None where it cannot tell.

    One token is written twice, with the two letters exchanged: a model that always takes the first says 0.5. Needs
    logprobs, or else a JSON schema, whose answer counts as 0 or 1. Raises BackendError.
    """
    can = backend.capabilities()
    if not can.logprobs and not can.json_schema:
        return None
    shares = []
    for yes, no in (("A", "B"), ("B", "A")):
        asked = f"\n\nDoes the evidence above hold what is needed to answer: {question}\n"
        lines = sorted((f"{yes}: it does", f"{no}: it does not"))
        user = prompt.user + asked + "\n".join(lines) + "\nSay A or B and nothing else."
        tokens = backend.count_tokens(prompt.system) + backend.count_tokens(user)
        once = replace(
            options,
            max_tokens=1 if can.logprobs else 8,
            logprobs=20 if can.logprobs else None,
            json_schema="" if can.logprobs else '{"enum": ["A", "B"]}',
        )
        end = None
        for item in backend.stream(replace(prompt, user=user, tokens=tokens), once):
            end = item if isinstance(item, Completion) else end
        share = _share(end, yes, no) if end else None
        if share is None:
            return None
        shares.append(share)
    return round(sum(shares) / len(shares), 4)


def _share(end: Completion, yes: str, no: str) -> float | None:
    if not end.logprobs:
        said = end.text.strip().strip('"')
        return {yes: 1.0, no: 0.0}.get(said[:1])
    first = end.logprobs[0]
    mass = {yes: 0.0, no: 0.0}
    for token, logprob in first.alternatives or ((first.token, first.logprob),):
        letter = token.strip().strip('"')
        if letter in mass:
            mass[letter] += exp(logprob)
    total = mass[yes] + mass[no]
    return mass[yes] / total if total else None


def _moves(checks: Checks, told: Signals) -> list[tuple[str, float, str]]:
    """(name, what it adds to the log-odds, why) of everything that was looked at; 0 where it says nothing."""
    cited = checks.resolved + len(checks.unresolved)
    supported = bool(checks.edges_right or checks.quotes_right)
    # What holds makes up for nothing that does not.
    sound = not (checks.failed or checks.apart or checks.unresolved)
    moves = [
        (
            "edges wrong",
            *_counted(EDGE_WRONG, [f.claim for f in checks.edges_wrong], "The tables do not show that {}."),
        ),
        ("names nowhere", *_counted(NAME_NOWHERE, checks.names_nowhere, "The answer names what stands nowhere: {}.")),
        ("quotes wrong", *_counted(QUOTE_WRONG, [f.claim for f in checks.quotes_wrong], "Not in the lines cited: {}.")),
        (
            "citations apart",
            *_counted(CITATION_APART, [f.claim for f in checks.apart], "Cited for what they do not say: {}."),
        ),
        (
            "citations unresolved",
            *_counted(CITATION_UNRESOLVED, checks.unresolved, "Cited, but not shown to the model: {}."),
        ),
        ("edges right", EDGE_RIGHT if checks.edges_right and sound else 0.0, _confirmed(len(checks.edges_right))),
        ("quotes right", QUOTE_RIGHT if checks.quotes_right and sound else 0.0, ""),
        ("all resolved", ALL_RESOLVED if cited and sound else 0.0, ""),
        ("nothing cited", 0.0 if cited else NOTHING_CITED, "" if cited else "The answer cites nothing that was shown."),
    ]
    if cited:
        moves.append(("sentences uncited", UNCITED * (1 - told.cited), ""))
    if checks.unanswered:
        parts = "; ".join(checks.unanswered)
        share = 1.0 if checks.parts <= len(checks.unanswered) else len(checks.unanswered) / checks.parts
        moves.append(("parts unanswered", PART_UNANSWERED * share, f"The answer does not touch: {parts}."))
    if told.unknown:
        moves.append(("says unknown", SAYS_UNKNOWN * told.unknown, "The model says that the evidence does not answer."))
    if told.loops:
        moves.append(("loops", LOOPED, "The model repeats itself."))
    if told.fault and not (checks.names_nowhere or told.loops):
        moves.append(("stopped", STOPPED, f"The model's text was ended: {told.fault}."))
    if told.finish == "length":
        moves.append(("cut short", CUT_SHORT, "The limit of tokens ended the model's text."))
    if told.agrees and not supported:
        moves.append(
            ("only agrees", ONLY_AGREES, "The model agrees with the question, and nothing it says can be looked up.")
        )
    if told.mean_logprob is not None:
        steps = min(1.0, max(-1.0, (told.mean_logprob - USUAL_LOGPROB) / LOGPROB_STEP))
        moves.append(("sure of names", SURE_TOKENS * steps, ""))
    if told.answerable is not None:
        reason = f"Asked apart, the model takes the evidence to answer it at {told.answerable:.0%}."
        moves.append(("probe", PROBED * (2 * told.answerable - 1), reason))
    return moves


def _logged(told: Signals) -> list[tuple[str, float]]:
    """What was measured of a text, whether it counts or not."""
    measured = (
        ("share cited", told.cited),
        ("mean logprob of names", told.mean_logprob),
        ("least logprob of names", told.least_logprob),
        ("entropy of first tokens", told.entropy),
        ("answerable", told.answerable),
    )
    return [(name, value) for name, value in measured if value is not None]


def _confirmed(number: int) -> str:
    return f"The tables confirm {number} relation{'s' if number > 1 else ''} that the answer states."


def _counted(weight: float, found: Sequence[str], reason: str) -> tuple[float, str]:
    shown = ", ".join(found[:MOST_COUNTED]) + (" and others" if len(found) > MOST_COUNTED else "")
    return weight * min(MOST_COUNTED, len(found)), reason.format(shown) if found else ""


def _values(tokens: Sequence[TokenLogprob]) -> list[float]:
    """The logarithms of the tokens that names and numbers are made of."""
    text = "".join(token.token for token in tokens)
    spans = [match.span() for match in _VALUE.finditer(text)]
    found: list[float] = []
    at = place = 0
    for token in tokens:
        end = at + len(token.token)
        while place < len(spans) and spans[place][1] <= at:
            place += 1
        if place < len(spans) and spans[place][0] < end:
            found.append(token.logprob)
        at = end
    return found


def _entropy(tokens: Sequence[TokenLogprob]) -> float | None:
    """Bits a token, of the alternatives told; what they leave of the probability counts as one more."""
    told = [token.alternatives for token in tokens if token.alternatives]
    if not told:
        return None
    return round(sum(map(_bits, told)) / len(told), 4)


def _bits(alternatives: Sequence[tuple[str, float]]) -> float:
    shares = [exp(logprob) for _, logprob in alternatives]
    rest = 1.0 - sum(shares)
    return -sum(share * log2(share) for share in (*shares, rest) if share > 0)


def _loops(text: str) -> bool:
    said = re.findall(r"\w+", text.lower())
    runs = [tuple(said[start : start + REPEATED_WORDS]) for start in range(len(said) - REPEATED_WORDS + 1)]
    return len(runs) > REPEATED_WORDS and 1 - len(set(runs)) / len(runs) >= LOOP_SHARE
