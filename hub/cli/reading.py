"""The commands that search and ask: search, ask, export."""

import argparse
import sys
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path

from hub.choosing import choose_workspace
from hub.cli import DONE, NOTHING
from hub.cli.output import Json, json_text, kinds_of, opened_service, print_json, print_notes, settings_of
from hub.cli.served import server_for_answers
from hub.config import Settings
from hub.following import behind_words
from hub.model import (
    Answer,
    Attempt,
    Event,
    Found,
    Hit,
    Moved,
    Part,
    Piece,
    Prefill,
    Reading,
    Tier,
    Understood,
)
from hub.prompting import visible
from hub.remote.client import gone
from hub.remote.reading import answer_from, event_from, search_from
from indexer.index import DataFolder, Index

_SNIPPET_LINES = 6
_MOST_FEATURES = 8  # of a confidence that are shown; JSON has them all
_MOST_OF_SERVER = 200  # hits that a server gives at once
_MOST_TEXT = 100_000  # characters that it takes; longer ones are looked up here


def search(options: argparse.Namespace) -> int:
    shape = _searched(options, " ".join(options.query))
    if options.json:
        print_json(shape)
        return DONE if shape["hits"] else NOTHING
    result = search_from(shape)
    if not result.hits:
        print(f"Nothing found in {result.workspace}. {' '.join(result.confidence.reasons)}")
    else:
        if options.files:
            for rank, (path, score) in enumerate(result.files, 1):
                print(f"{rank:2}. {path}  {score:.3f}")
        else:
            weights = dict(result.understood.weights) if options.explain else None
            for rank, hit in enumerate(result.hits, 1):
                _print_hit(rank, hit, weights)
        if options.explain:
            _print_understood(result.understood)
        confidence = result.confidence
        calibrated = "" if confidence.calibrated else " (uncalibrated)"
        print(f"confidence {confidence.value:.2f}{calibrated}: {' '.join(confidence.reasons)}")
        if (behind := behind_words(result.stamp)).endswith("behind"):
            print(f"{result.workspace} is {behind}")
        print_notes(result.notes)
    return DONE if result.hits else NOTHING


def ask(options: argparse.Namespace) -> int:
    question = " ".join(options.question)
    tier = None if options.tier == "auto" else Tier(options.tier)
    shape = _asked(options, question, tier, _ignore if options.json else _Teller().tell)
    answer = answer_from(shape)
    if options.json:
        print_json(shape)
    else:
        _print_sources(answer)
        if options.explain:
            _print_explanation(answer)
    return NOTHING if answer.declined else DONE


def export(options: argparse.Namespace) -> int:
    from hub import shapes  # noqa: PLC0415 - as above

    data = DataFolder(settings_of(options).data)
    chosen = choose_workspace(data.workspaces(), options.workspace, Path.cwd())
    with Index.for_reading(data, chosen.name) as opened:
        edges = chain(opened.facts.all_edges(), opened.graph.lineage.all_overrides())
        for shape in shapes.export_shapes(opened.facts.all_symbols(), edges):
            print(json_text(shape))
    return DONE


def _searched(options: argparse.Namespace, query: str) -> Json:
    """By the server that runs, or here: the same either way."""
    settings = settings_of(options)
    paths, kinds = tuple(options.path or ()), kinds_of(options.kind or ())
    remote = server_for_answers(settings) if _travels(query) and options.limit <= _MOST_OF_SERVER else None
    if remote is not None:
        workspace = _workspace(options, settings)
        asked = {"query": query, "workspace": workspace, "limit": options.limit}
        narrowed = {"path": paths, "kind": [kind.value for kind in kinds]}
        return remote.post("/api/v1/search", {**asked, **narrowed})
    from hub import shapes  # noqa: PLC0415 - 0.3 s that those need not wait for who have a server
    from hub.service import Filters  # noqa: PLC0415 - as above

    with opened_service(options) as service:
        return shapes.search_shape(service.search(query, options.limit, Filters(paths, kinds)))


def _asked(options: argparse.Namespace, question: str, tier: Tier | None, tell: Callable[[Event], None]) -> Json:
    settings = settings_of(options, backend=options.backend, ask_policy=options.policy)
    remote = server_for_answers(settings) if _travels(question) else None
    if remote is None:
        from hub import shapes  # noqa: PLC0415 - as above

        with opened_service(options, backend=options.backend, ask_policy=options.policy) as service:
            return shapes.answer_shape(service.ask(question, tier, tell))
    body = {
        "question": question,
        "workspace": _workspace(options, settings),
        "tier": options.tier,
        "policy": settings.ask_policy,
        "stream": True,
    }
    for name, shape in remote.stream("/api/v1/ask", body):
        if name == "answer":
            return shape
        event = event_from(name, shape)
        if event is not None:
            tell(event)
    raise gone(remote.pid)


def _workspace(options: argparse.Namespace, settings: Settings) -> str:
    """Chosen here, since the server does not know the folder that the command is in."""
    return choose_workspace(DataFolder(settings.data).workspaces(), options.workspace, Path.cwd()).name


def _travels(text: str) -> bool:
    """Whether a server gets a text as it was typed: bytes that are no text, and NUL, do not pass."""
    return (
        0 < len(text) <= _MOST_TEXT and "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
    )


def _ignore(_event: Event) -> None:
    pass


class _Teller:
    """Shows an answer as it comes."""

    def __init__(self) -> None:
        self._told = False  # whether text stands on the screen that counts

    def tell(self, event: Event) -> None:
        match event:
            case Found(citations, confidence) if citations:
                files = len({citation.span.path for citation in citations})
                print(
                    f"found {len(citations)} pieces of evidence in {files} files, confidence {confidence.value:.2f}",
                    file=sys.stderr,
                )
            case Reading(backend, model, prompt_tokens):
                # Evidence may have been told before, and its last line has no end yet.
                print(f"\n{model} ({backend}) reads {prompt_tokens} tokens ...", file=sys.stderr)
            case Prefill(read, total, cached) if sys.stderr.isatty():
                known = f", {cached} of them known already" if cached else ""
                print(f"\r{read} of {total} tokens read{known}", end="\n" if read >= total else "", file=sys.stderr)
            case Part(number, total, tokens, seconds):
                done = f"part {number} of {total}" if number else f"{total} parts to read"
                print(f"{done}: {tokens} tokens, about {seconds:.0f} s", file=sys.stderr)
            case Moved(attempt, to, _, cost_s):
                if self._told:
                    print("\n\n-- the text above is void --\n")
                    self._told = False
                about = f" (about {cost_s:.0f} s)" if cost_s >= 1 else ""
                print(f"tier {attempt.tier.value} left for tier {to.value}{about}: {attempt.left}", file=sys.stderr)
            case Piece(text):
                self._told = True
                print(text, end="", flush=True)


def _print_sources(answer: Answer) -> None:
    print("\n")
    if answer.citations:
        print("Sources:")
    for citation in answer.citations:
        name = f"  {citation.symbol}" if citation.symbol else ""
        print(f"  [{citation.label}] {citation.span}{name}")
    calibrated = "" if answer.confidence.calibrated else " (uncalibrated)"
    state = f"{answer.workspace} at {answer.stamp.commit[:12] if answer.stamp.commit else 'no commit'}"
    dirty = " with local changes" if answer.stamp.dirty else ""
    behind = f", {words}" if (words := behind_words(answer.stamp)) else ""
    who = answer.backend if answer.model == "none" else f"{answer.model} ({answer.backend})"
    print(
        f"confidence {answer.confidence.value:.2f}{calibrated}, tier {answer.tier.value}, {who},"
        f" {answer.seconds:.1f} s, {state}{dirty}{behind}"
    )
    if answer.usage.cached is not None:
        print(f"{answer.usage.cached} of {answer.usage.prompt} tokens of the prompt were known to the model already")
    if len(answer.attempts) > 1:
        print("tiers:")
        for attempt in answer.attempts:
            print(f"  {_attempt_line(attempt)}")
    if answer.confidence.guarantee:
        print(answer.confidence.guarantee)
    print_notes(answer.notes)


def _attempt_line(attempt: Attempt) -> str:
    checked = "" if attempt.checked is None else f", checked {attempt.checked:.2f}"
    usage = attempt.usage
    known = f" ({usage.cached} known)" if usage.cached else ""
    tokens = f", {usage.prompt}{known} + {usage.completion} tokens" if usage.prompt else ""
    left = f": {attempt.left}" if attempt.left else ""
    return f"{attempt.tier.value:8} {attempt.confidence:.2f}{checked}{tokens}, {attempt.seconds:.1f} s{left}"


def _print_explanation(answer: Answer) -> None:
    """Every decision on the way: the value with its arithmetic, the thresholds, the tiers as they were weighed."""
    for decision in answer.decisions:
        what = "of its answer" if decision.answered else "of its prompt"
        print(
            f"\nat tier {decision.at.value}: {decision.value:.2f} {what}, {decision.way.value} -> {decision.tier.value}"
        )
        print(f"  {decision.reason}")
        if decision.arithmetic:
            added = ", ".join(f"{name} {value:+.2f}" for name, value in decision.arithmetic[:_MOST_FEATURES])
            more = len(decision.arithmetic) - _MOST_FEATURES
            print(f"  log-odds, fitted on {decision.origin}: {added}{f' and {more} more' if more > 0 else ''}")
        certified = "nothing is certified" if decision.certified is None else f"certified from {decision.certified:.2f}"
        print(f"  a right answer is worth {decision.value_s:.0f} s of waiting; {certified}")
        if decision.weighed:
            print("  tier       gain   harm   seconds   worth")
        for rung in decision.weighed:
            print(
                f"  {rung.tier.value:8} {rung.gain:6.2f} {rung.harm:6.2f} {rung.cost_s:9.1f} {rung.worth_s:7.1f}"
                f"  {rung.closed}".rstrip()
            )


def _print_understood(understood: Understood) -> None:
    words = ", ".join(f"{word} {weight:.1f}" for word, weight in understood.words)
    dropped = f"; {understood.dropped} more left out" if understood.dropped else ""
    pasted = f", pasted: {understood.paste.value}" if understood.paste else ""
    print(f"read as {understood.kind.value}{pasted}; words by rarity: {words or 'none'}{dropped}")
    for called, names in (
        ("names", understood.names),
        ("spelt out", understood.spelt),
        ("standing nowhere", understood.unknown),
    ):
        if names:
            print(f"{called}: {', '.join(names)}")
    print(f"found by {', '.join(f'{arm} {number}' for arm, number in understood.found)}")
    weights = ", ".join(f"{name} {weight:g}" for name, weight in understood.weights)
    print(f"weights, fitted on {understood.origin}: {weights}")


def _print_hit(rank: int, hit: Hit, weights: Mapping[str, float] | None) -> None:
    """With weights, what the score is made of: each arm's rank, raw score, weight and contribution, and the rest."""
    name = f"  {hit.symbol_name}" if hit.symbol_name else ""
    print(f"{rank:2}. {hit.chunk.span}{name}")
    if weights is not None:
        counted = dict(hit.contributions)
        arms = {signal.source.value for signal in hit.signals}
        rest = "".join(f" {value:+.3f} {name}" for name, value in hit.contributions if name not in arms)
        print(f"    score {hit.score:.3f} = {sum(v for n, v in counted.items() if n in arms):.3f} from arms{rest}")
        for signal in hit.signals:
            arm = signal.source.value
            print(
                f"      {arm:8} rank {signal.rank:3}  raw {signal.raw:8.3f}  weight {weights.get(arm, 0.0):5.2f}"
                f"  gives {counted.get(arm, 0.0):+.3f}"
            )
    lines = [line.rstrip() for line in visible(hit.chunk.text).split("\n") if line.strip()]
    for line in lines[:_SNIPPET_LINES]:
        print(f"    {line}")
    print()
