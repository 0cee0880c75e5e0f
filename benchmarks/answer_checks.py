"""Measures the checks on answers: how many corrupted answers they catch, and how many right ones they doubt.

    python benchmarks/answer_checks.py [--answers 200] [--show KIND] [--json FILE] [TREE ...]

Needs no model. Right answers are written from a tree's own tables: where a function stands, what it calls and is called
by, what its class derives from and overrides, and a line of its code, each in one of several wordings and with the
citation that holds it. A corrupted answer is a right one with one of its facts made untrue. Both are checked as an
answer of a model is, and the confidence that both begin with is revised. The same tables write and judge the calls, so
what is measured is the way from the sentence to the judgement, not the tables: benchmarks/cpp_facts.py does those.
"""

import argparse
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from hub.claims import Checks, Known, check, known_of  # noqa: E402 - the path is set above, for a plain checkout
from hub.confidence.answers import revise, signals  # noqa: E402
from hub.model import Citation, Completion, Confidence, Tier, Usage  # noqa: E402
from indexer.index import DataFolder, Index  # noqa: E402
from indexer.model import Provenance, ReferenceKind, Span, Symbol, SymbolKind  # noqa: E402
from indexer.pipeline import Options, refresh  # noqa: E402

_Value = TypeVar("_Value")

SEED = 7
BEGINNING = 0.8  # the confidence before the checks, the same for all
MOST_LINES = 60  # of a function that is shown

CALLED = (
    "`{a}` calls `{b}` [{n}].",
    "The function `{a}` first invokes `{b}()` [{n}].",
    "`{b}` is called by `{a}` [{n}].",
    "`{b}` is called from `{a}` [{n}].",
    "The work is done by `{b}`. `{a}` calls `{b}` for it [{n}].",
)
DERIVED = (
    "`{a}` derives from `{b}` [{n}].",
    "`{b}` is a base class of `{a}` [{n}].",
    "The class `{a}` inherits publicly from `{b}` [{n}].",
)
OVERRIDDEN = ("`{a}` overrides `{b}` [{n}].", "`{b}` is overridden by `{a}` [{n}].")
STANDING = (
    "`{a}` is defined in {path}:{line} [{n}].",
    "The definition of `{a}` is in `{path}`, line {line} [{n}].",
    "`{a}` is implemented in `{path}:{line}` [{n}].",
)
QUOTED = ("Its decisive line is `{code}` [{n}].", "There it says `{code}` [{n}].")
_FUNCTIONS = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD})
_CLASSES = frozenset({SymbolKind.CLASS, SymbolKind.STRUCT})
_QUOTABLE = re.compile(r"[^`]*(?: [-+*/<>=!&|]=? | == | != |&&|\|\|)[^`]*;?")


@dataclass(frozen=True, slots=True)
class Fact:
    """One sentence of an answer; ``kind`` says which corruptions it can take."""

    kind: str
    form: str
    values: tuple[tuple[str, str], ...]
    label: int

    def text(self) -> str:
        return self.form.format(n=self.label, **dict(self.values))


@dataclass(frozen=True, slots=True)
class Written:
    question: str
    facts: tuple[Fact, ...]
    citations: tuple[Citation, ...]
    evidence: tuple[tuple[Citation, str], ...]

    @property
    def text(self) -> str:
        return " ".join(fact.text() for fact in self.facts)


class Author:
    """Writes answers about an index, right ones and others."""

    def __init__(self, index: Index, known: Known, seed: int) -> None:
        self._index = index
        self._known = known
        self.chance = random.Random(seed)
        symbols = [s for s in index.facts.all_symbols() if s.is_definition and "(anonymous" not in s.scope]
        self.functions = [
            s for s in symbols if s.kind in _FUNCTIONS and 3 <= _lines(s.span) <= MOST_LINES and s.name[0].isalpha()
        ]
        self.classes = [s for s in symbols if s.kind in _CLASSES]

    def answers(self, number: int) -> Iterator[Written]:
        """About so many functions, in an order of chance."""
        for symbol in self.chance.sample(self.functions, min(number, len(self.functions))):
            yield self._about(symbol)

    def _about(self, symbol: Symbol) -> Written:
        facts, shown = self._index.facts, [(symbol.span, symbol.qualified_name)]
        stated: list[Fact] = [
            self._fact(
                "place",
                STANDING,
                1,
                a=_short(symbol),
                path=symbol.span.path,
                line=str(symbol.line or symbol.span.first_line),
            )
        ]
        called = self._some(facts.edges_from(symbol, (ReferenceKind.CALL,)), 2)
        stated += [
            self._fact("call", CALLED, 1, a=_short(symbol), b=_tail(edge.target))
            for edge in called
            if edge.how is not Provenance.BY_NAME and edge.target and _last(edge.target)[0].isalpha()
        ]
        callers = [
            edge
            for edge in facts.edges_to(symbol, (ReferenceKind.CALL,))
            if edge.inside and edge.how is not Provenance.BY_NAME
        ]
        for edge in self._some(callers, 1):
            holders = [s for s in self.functions if s.qualified_name == edge.inside and s.span.path == edge.path]
            if holders and holders[0].id != symbol.id:
                shown.append((holders[0].span, holders[0].qualified_name))
                stated.append(self._fact("call", CALLED, len(shown), a=_tail(edge.inside), b=_short(symbol)))
        owner = next((s for s in self.classes if s.qualified_name == symbol.scope), None)
        if owner is not None:
            for relative in self._some([r for r in self._index.graph.lineage.bases(owner) if r.id], 1):
                shown.append((owner.span, owner.qualified_name))
                stated.append(self._fact("base", DERIVED, len(shown), a=owner.name, b=_tail(relative.name)))
        lineage = self._index.graph.lineage
        overridden = self._some(lineage.edges(lineage.overrides_of({symbol.id})), 1)
        stated += [self._fact("override", OVERRIDDEN, 1, a=_short(symbol), b=_tail(edge.target)) for edge in overridden]
        lines = [line.strip() for line in self._known.lines(symbol.span).split("\n")[1:]]
        quotable = [line for line in lines if _QUOTABLE.fullmatch(line) and "//" not in line and 12 < len(line) < 90]
        stated += [self._fact("quote", QUOTED, 1, code=line) for line in self._some(quotable, 1)]
        citations = tuple(Citation(label, span, name) for label, (span, name) in enumerate(shown, 1))
        evidence = tuple((c, self._known.lines(c.span)) for c in citations)
        return Written(f"How does {_short(symbol)} work?", tuple(stated), citations, evidence)

    def _fact(self, kind: str, forms: Sequence[str], label: int, **values: str) -> Fact:
        return Fact(kind, self.chance.choice(forms), tuple(values.items()), label)

    def _some(self, found: Sequence[_Value], number: int) -> list[_Value]:
        return self.chance.sample(list(found), min(number, len(found)))

    def stranger(self, *names: str) -> str:
        """A function of the tree by another name than these."""
        while _last(name := _short(self.chance.choice(self.functions))) in {_last(n) for n in names}:
            pass
        return name


def _lines(span: Span) -> int:
    return span.last_line - span.first_line + 1


def _last(name: str) -> str:
    return name.rpartition("::")[2]


def _tail(name: str) -> str:
    return "::".join(name.split("::")[-2:])


def _short(symbol: Symbol) -> str:
    return _tail(symbol.qualified_name)


def _replaced(fact: Fact, **values: str) -> Fact:
    return replace(fact, values=tuple((dict(fact.values) | values).items()))


def _wrong_callee(fact: Fact, author: Author) -> Fact | None:
    a, b = dict(fact.values)["a"], dict(fact.values)["b"]
    return _replaced(fact, b=author.stranger(a, b))


def _swapped(fact: Fact, _author: Author) -> Fact | None:
    values = dict(fact.values)
    return _replaced(fact, a=values["b"], b=values["a"])


def _wrong_base(fact: Fact, author: Author) -> Fact | None:
    values = dict(fact.values)
    others = [s.name for s in author.classes if s.name not in {values["a"], _last(values["b"])}]
    return _replaced(fact, b=author.chance.choice(others)) if others else None


def _wrong_override(fact: Fact, author: Author) -> Fact | None:
    methods = [
        _short(s) for s in author.functions if s.kind is SymbolKind.METHOD and s.name != _last(dict(fact.values)["b"])
    ]
    return _replaced(fact, b=author.chance.choice(methods)) if methods else None


def _wrong_line(fact: Fact, author: Author) -> Fact | None:
    return _replaced(fact, line=str(int(dict(fact.values)["line"]) + author.chance.randint(70, 400)))


def _wrong_file(fact: Fact, author: Author) -> Fact | None:
    path = dict(fact.values)["path"]
    others = sorted(
        {s.span.path for s in author.functions if s.span.path.rpartition("/")[2] != path.rpartition("/")[2]}
    )
    return _replaced(fact, path=author.chance.choice(others)) if others else None


def _invented(fact: Fact, author: Author) -> Fact | None:
    name = dict(fact.values)["b"]
    return _replaced(fact, b=f"{name}{author.chance.choice(['Quietly', 'Ex2', '_checked_impl', 'OrAbort'])}")


def _altered(fact: Fact, author: Author) -> Fact | None:
    code = dict(fact.values)["code"]
    changes: list[Callable[[str], str]] = [
        lambda text: re.sub(
            r" (==|!=|<=|>=|&&|\|\||[-+*/<>=]) ",
            lambda m: f" {author.chance.choice(sorted({'==', '!=', '+', '-', '<', '&&'} - {m[1]}))} ",
            text,
            count=1,
        ),
        lambda text: re.sub(r"\b[0-9]+\b", lambda m: str(int(m[0]) + 1), text, count=1),
        lambda text: re.sub(r"\b[a-z_]\w{3,}\b", "altered", text, count=1),
    ]
    other = author.chance.choice(changes)(code)
    return _replaced(fact, code=other) if other != code else None


CORRUPTIONS: dict[str, tuple[str, Callable[[Fact, Author], Fact | None]]] = {
    "wrong callee": ("call", _wrong_callee),
    "call turned round": ("call", _swapped),
    "invented name": ("call", _invented),
    "wrong base": ("base", _wrong_base),
    "base turned round": ("base", _swapped),
    "wrong override": ("override", _wrong_override),
    "wrong line": ("place", _wrong_line),
    "wrong file": ("place", _wrong_file),
    "altered quote": ("quote", _altered),
}


def corrupted(written: Written, kind: str, author: Author) -> Written | None:
    """The answer with one fact made untrue, None where it has no such fact."""
    which, change = CORRUPTIONS[kind]
    places = [number for number, fact in enumerate(written.facts) if fact.kind == which]
    if not places:
        return None
    place = author.chance.choice(places)
    other = change(written.facts[place], author)
    if other is None:
        return None
    return replace(written, facts=(*written.facts[:place], other, *written.facts[place + 1 :]))


def misplaced(written: Written, author: Author) -> Written | None:
    """The answer with one citation of another function's lines."""
    label = author.chance.choice(written.facts).label
    other = author.chance.choice(author.functions)
    place = Citation(label, other.span, other.qualified_name)
    citations = tuple(place if c.label == label else c for c in written.citations)
    return replace(written, citations=citations, evidence=(*written.evidence, (place, author._known.lines(place.span))))  # noqa: SLF001 - of this file


def judged(written: Written, known: Known) -> tuple[Checks, float]:
    """The checks of an answer, and its confidence after them."""
    checks = check(known, written.question, written.text, written.citations, written.evidence)
    before = Confidence(BEGINNING, Tier.RAG, ())
    return checks, revise(
        before, checks, signals(written.question, written.text, Completion(written.text, Usage()))
    ).value


def doubted(checks: Checks) -> bool:
    return checks.failed or bool(checks.apart)


def auroc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """The chance that a right answer has the higher confidence; a tie counts half."""
    wins = sum((a > b) + 0.5 * (a == b) for a in right for b in wrong)
    return wins / (len(right) * len(wrong)) if right and wrong else float("nan")


def measured(index: Index, answers: int, show: str) -> dict[str, dict[str, float]]:
    """A row for the right answers and one for each corruption."""
    known = known_of(index)
    author = Author(index, known, SEED)
    found: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    unknown = stated = 0
    for written in author.answers(answers):
        checks, value = judged(written, known)
        found["right"].append((doubted(checks), value))
        unknown += len(checks.edges_unknown)
        stated += sum(fact.kind != "quote" for fact in written.facts)
        if show == "right" and doubted(checks):
            _print(written, checks)
        for kind in (*CORRUPTIONS, "wrong citation"):
            other = misplaced(written, author) if kind == "wrong citation" else corrupted(written, kind, author)
            if other is None:
                continue
            checks, value = judged(other, known)
            found[kind].append((doubted(checks), value))
            if show == kind and not doubted(checks):
                _print(other, checks)
    right = [value for _, value in found["right"]]
    rows = {
        kind: {
            "answers": len(rows),
            "doubted": sum(doubt for doubt, _ in rows) / len(rows),
            "confidence": sum(value for _, value in rows) / len(rows),
            "auroc": auroc(right, [value for _, value in rows]) if kind != "right" else float("nan"),
        }
        for kind, rows in found.items()
    }
    rows["right"]["left open"] = unknown / max(1, stated)
    return rows


def _print(written: Written, checks: Checks) -> None:
    print(f"- {written.text}")
    for name in ("edges_wrong", "quotes_wrong", "apart", "edges_unknown"):
        for finding in getattr(checks, name):
            print(f"    {name}: {finding.claim} {' '.join(map(str, finding.places))}")
    print(f"    nowhere: {checks.names_nowhere}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", type=Path, default=[REPOSITORY / "sample_repo"])
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--show", default="", help="print the right answers that were doubted, or what was not caught")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = {}
    for tree in options.trees:
        with TemporaryDirectory() as folder:
            data = DataFolder(Path(folder))
            with data.owned(), Index.for_writing(data, "w", tree.resolve()) as index:
                refresh(index, Options(workers=1), ())
            with Index.for_reading(data, "w") as index:
                rows = report[tree.name] = measured(index, options.answers, options.show)
        print(f"\n{tree.name}: of right answers {rows['right']['left open']:.0%} of the relations are left open")
        print(f"{'':20}{'answers':>8}{'doubted':>9}{'confidence':>12}{'AUROC':>7}")
        for kind, row in rows.items():
            rank = "" if kind == "right" else f"{row['auroc']:.2f}"
            print(f"{kind:20}{row['answers']:8.0f}{row['doubted']:9.0%}{row['confidence']:12.2f}{rank:>7}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
