"""Full-text search over the words of chunks: BM25 with weighted columns, in SQLite's FTS5.

A question is read against the index first: which of its words the tree holds and how rare they are, and which names of
the tree it spells out in words. Knows nothing of names as symbols, nor of how its ranking is fused with others.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from itertools import chain, pairwise
from math import log
from typing import TYPE_CHECKING, NamedTuple

from indexer.model import ChunkId
from indexer.symbol_table.database import Database, marks
from indexer.words import STOP_WORDS, query_words, spell_out, tokens, words

# BM25 weights of the columns of chunk_words, in their order: name, signature, doc, path, body. Range 0 to 10. Measured
# with benchmarks/retrieval.py --development: flat around these values, a function's name is what a description means.
COLUMN_WEIGHTS = (6.0, 3.0, 2.0, 4.0, 1.0)
# Words of a question that are asked for, the rarest: a description has 10, a long message 60, and each costs time. 24
# lose 1 point of NDCG on long commit messages, 40 lose nothing. 24 to 100.
MOST_WORDS = 40
# Chunks that all words of a question may hold in sum, at 0.5 to 0.8 microseconds each when a word is first asked for;
# the rarest FEWEST_WORDS are asked whatever they cost. A bound at the number of chunks of the tree costs a description
# nothing and a message 0.7 points of NDCG, at half of it 1 and 1.8. 20,000 to 200,000.
MOST_HELD = 60_000
FEWEST_WORDS = 4
MOST_PAIRS = 24  # neighbouring words that are looked for side by side, in messages; 10 to 60
MOST_READ_WORDS = 400  # distinct words of a question of which the rarity is looked up; 100 to 1,000
MOST_COMPOUNDS = 12  # names that a question spells out in words; 4 to 40
COMPOUND_WORDS = 4  # words that one such name is made of; 2 to 6
MOST_KEPT = 3_000_000  # chunks of words whose scores are kept, 16 bytes each; 500,000 to 10,000,000
MOST_WORD_CHARS = 200  # longer ones are data, not words
# To look one word up takes 50 microseconds, to read all the words of a tree 6 for each of its chunks, so that this is
# worth it once a tenth as many were looked up; not in large trees, where one question would wait for seconds.
LOOK_UPS_A_CHUNK = 0.1  # 0.05 to 1
MOST_READ_WHOLE = 100_000  # chunks of a tree whose words are all kept: 500 bytes each; 0 to 200,000

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SPELT = re.compile(r"[^\W\d_]+|\d+")
# BM25 of one word; that of a question is the sum over its words, so each word is scored once and kept.
_SCORES = (
    f"SELECT rowid, -bm25(chunk_words, {', '.join(map(str, COLUMN_WEIGHTS))}) FROM chunk_words"
    " WHERE chunk_words MATCH ?"
)


class _Scores(NamedTuple):
    """The chunks that hold a word, by row, and what it is worth in each."""

    rows: "npt.NDArray[np.int64]"
    values: "npt.NDArray[np.float64]"


class Term(NamedTuple):
    """A word of a question. ``weight`` is its inverse document frequency, ``holding`` the chunks that hold it."""

    word: str
    stem: str
    weight: float
    holding: int


@dataclass(frozen=True, slots=True)
class Wording:
    """A question as text search reads it."""

    terms: tuple[Term, ...]  # distinct by stem, in the order of the question; the rarest where there were too many
    compounds: tuple[str, ...]  # names of the tree that the question spells out in words: "file name" means filename
    pairs: tuple[str, ...]  # neighbours among the terms, in messages
    stressed: tuple[str, ...]  # words that count twice, in messages
    dropped: int  # words left out, because rarer ones say enough

    @property
    def asked(self) -> tuple[str, ...]:
        """The words that are searched for: those that the tree holds."""
        return (*(term.word for term in self.terms if term.holding), *self.compounds, *self.pairs, *self.stressed)


class Form(StrEnum):
    """How a text means its words."""

    QUESTION = "question"
    MESSAGE = "message"  # of a commit: the first line counts twice, and so do words side by side


@dataclass(slots=True)
class _Counted:
    """What was read of one state of a table, by whoever searches it; several threads may add to it."""

    chunks: int
    holding: dict[str, int] = field(default_factory=dict)  # by stem
    whole: bool = False  # whether ``holding`` has every stem of the tree, so that what it lacks nothing holds
    looked_up: int = 0  # stems, since nobody read the whole
    scores: dict[str, _Scores] = field(default_factory=dict)  # by word or pair of words
    kept: int = 0  # chunks in them
    ids: dict[int, ChunkId] = field(default_factory=dict)
    wordings: dict[tuple[str, Form], Wording] = field(default_factory=dict)


class TextSearch:
    """Reads the full-text index of one table. What it counted is kept until the table changes."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._counting = False
        # By word; "" where the index drops it; the same in every state of the table.
        self._stems: dict[str, str] = database.commons.of("stems", None, lambda known: known or {})
        self._of_token: dict[str, tuple[str, ...]] = database.commons.of("tokens", None, lambda known: known or {})
        self._of_text: dict[str, frozenset[str]] = database.commons.of("texts", None, lambda known: known or {})

    def wording(self, text: str, form: Form = Form.QUESTION) -> Wording:
        """How a question is understood. Never raises on odd text; bounded time on any length."""
        return self._wording(self._counted(), text, form)

    def search(
        self, text: str, limit: int, form: Form = Form.QUESTION, within: Collection[ChunkId] | None = None
    ) -> list[tuple[ChunkId, float]]:
        """(chunk, BM25 score), best first, equal ones by id; of those ``within`` alone where they are given.

        Never raises on odd text; nothing asked finds nothing.
        """
        counted = self._counted()
        asked = self._wording(counted, text, form).asked
        if not asked or limit < 1:
            return []
        import numpy as np  # noqa: PLC0415 - brings 0.1 s, which symbol look-ups do without

        scored = [self._scores_of(counted, word) for word in asked]
        last = max((int(found.rows.max()) for found in scored if len(found.rows)), default=0)
        total = np.zeros(last + 1)
        for found in scored:
            total[found.rows] += found.values  # rows are distinct within a word
        # What ties with the last is looked at too: row ids differ between a refresh and a rebuild, and must not decide.
        best = np.flatnonzero(total)
        if within is not None:
            allowed = [chunk in within for chunk in self._ids_of(counted, best.tolist())]
            best = best[np.array(allowed, dtype=bool)]
        if len(best) > limit:
            least = np.partition(total[best], -limit)[-limit]
            best = best[total[best] >= least]
        ids = self._ids_of(counted, best.tolist())
        ranked = sorted((-score, chunk) for score, chunk in zip(total[best].tolist(), ids, strict=True))
        return [(chunk, -score) for score, chunk in ranked[:limit]]

    def holds(self, word: str) -> bool:
        """Whether any chunk holds the word, whole, in any letter case."""
        (whole, *_) = words(word) or [""]
        return bool(whole) and bool(
            self._db.row("SELECT 1 FROM chunk_words WHERE chunk_words MATCH ? LIMIT 1", (f'"{whole}"',))
        )

    def size(self) -> int:
        """Chunks that are searched; counted once for each state of the table."""
        return self._counted().chunks

    def stems(self, text: str) -> list[str]:
        """The text's words as the full-text index compares them: split and stemmed, in order, with repeats."""
        return [stem for word in words(text) if (stem := self._stem(word))]

    def stem_set(self, text: str) -> frozenset[str]:
        """The distinct stems of a text, as ``stems``, in a tenth of the time: a token is split and stemmed once."""
        found = self._of_text.get(text)
        if found is None:
            found = self._read_stems(text)
            if len(text) <= _KEPT_CHARS:
                if len(self._of_text) >= _MOST_TEXTS:
                    self._of_text.clear()
                self._of_text[text] = found
        return found

    def _read_stems(self, text: str) -> frozenset[str]:
        known = self._of_token
        met = set(tokens(text))
        found = {token: tuple(filter(None, map(self._stem, spell_out(token)))) for token in met.difference(known)}
        if len(known) + len(found) > _MOST_STEMS:
            known = self._of_token = {token: known[token] for token in met if token in known}
        known.update(found)
        return frozenset(chain.from_iterable(map(known.__getitem__, met)))

    def term_weights(self, text: str) -> list[tuple[str, float]]:
        """The distinct stems of a question with their inverse document frequency: ln(1 + (N - n + 0.5) / (n + 0.5)).

        The formula is that of BM25 (Robertson and Zaragoza 2009), kept positive as in Lucene.
        """
        return [(term.stem, term.weight) for term in self.wording(text).terms]

    def _stem(self, word: str) -> str:
        known = self._stems.get(word)
        if known is None:
            if len(self._stems) >= _MOST_STEMS:
                self._stems.clear()
            known = self._stems[word] = "".join(self._db.stems([word])[:1])
        return known

    def _counted(self) -> _Counted:
        """What was counted in the table's present state."""
        return self._db.commons.of("words", self._db.generation(), self._count)

    def _count(self, _before: object) -> _Counted:
        return _Counted(self._db.number("SELECT count(*) FROM chunks"))

    def _wording(self, counted: _Counted, text: str, form: Form) -> Wording:
        known = counted.wordings.get((text, form))
        if known is None:
            if len(counted.wordings) >= _MOST_WORDINGS:
                counted.wordings.clear()
            known = counted.wordings[text, form] = self._read(counted, text, form)
        return known

    def _scores_of(self, counted: _Counted, word: str) -> _Scores:
        known = counted.scores.get(word)
        if known is None:
            import numpy as np  # noqa: PLC0415 - as above

            found = self._db.rows(_SCORES, (f'"{word}"',))  # words hold no quotes
            rows = np.fromiter((row for row, _ in found), np.int64, len(found))
            known = _Scores(rows, np.fromiter((value for _, value in found), np.float64, len(found)))
            counted.kept += len(found)
            if counted.kept > MOST_KEPT:
                counted.scores.clear()
                counted.kept = len(found)
            counted.scores[word] = known
        return known

    def _ids_of(self, counted: _Counted, rows: Sequence[int]) -> list[ChunkId]:
        missing = [row for row in rows if row not in counted.ids]
        for start in range(0, len(missing), _ROWS_A_STATEMENT):
            part = missing[start : start + _ROWS_A_STATEMENT]
            counted.ids.update(self._db.rows(f"SELECT rowid, id FROM chunks WHERE rowid IN ({marks(part)})", part))
        return [counted.ids[row] for row in rows]

    def _read(self, counted: _Counted, text: str, form: Form) -> Wording:
        distinct = [word for word in query_words(text) if len(word) <= MOST_WORD_CHARS]
        by_stem: dict[str, str] = {}
        for word in distinct[:MOST_READ_WORDS]:
            if stem := self._stem(word):
                by_stem.setdefault(stem, word)
        joined = [(name, self._stem(name)) for name in _joined(text[:_COMPOUND_CHARS])]
        self._look_up(counted, {*by_stem, *(stem for _, stem in joined if stem)})
        terms = [self._term(counted, word, stem) for stem, word in by_stem.items()]
        kept = _worth_asking(terms)
        pairs: tuple[str, ...] = ()
        stressed: tuple[str, ...] = ()
        if form is Form.MESSAGE:
            held = {term.stem for term in terms if term.stem in kept and term.holding}
            pairs = self._pairs(text, held)
            subject = dict.fromkeys(self._stem(word) for word in query_words(text.strip().partition("\n")[0]))
            stressed = tuple(by_stem[stem] for stem in subject if stem in held)
        return Wording(
            tuple(term for term in terms if term.stem in kept),
            self._compounds(counted, joined, set(by_stem)),
            pairs,
            stressed,
            len(distinct) - len(distinct[:MOST_READ_WORDS]) + len(terms) - len(kept),
        )

    def _pairs(self, text: str, held: set[str]) -> tuple[str, ...]:
        spoken = [word for word in words(text[:_PAIRED_CHARS]) if word not in STOP_WORDS]
        found = (f"{one} {other}" for one, other in pairwise(spoken) if {self._stem(one), self._stem(other)} <= held)
        return tuple(dict.fromkeys(found))[:MOST_PAIRS]

    def _term(self, counted: _Counted, word: str, stem: str) -> Term:
        holding = counted.holding.get(stem, 0)
        return Term(word, stem, log(1 + (counted.chunks - holding + 0.5) / (holding + 0.5)), holding)

    def _look_up(self, counted: _Counted, stems: Collection[str]) -> None:
        """Reads in how many chunks each of the stems stands."""
        missing = () if counted.whole else [stem for stem in stems if stem not in counted.holding]
        if not missing:
            return
        if not self._counting:
            self._db.run("CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab(main, chunk_words, row)")
            self._counting = True
        counted.looked_up += len(missing)
        if counted.chunks <= MOST_READ_WHOLE and counted.looked_up > LOOK_UPS_A_CHUNK * counted.chunks:
            counted.looked_up = 0  # other threads need not read it, too
            counted.holding = dict(self._db.rows("SELECT term, doc FROM temp.vocabulary"))
            counted.whole = True
            return
        for start in range(0, len(missing), _ROWS_A_STATEMENT):
            part = missing[start : start + _ROWS_A_STATEMENT]
            rows = self._db.rows(f"SELECT term, doc FROM temp.vocabulary WHERE term IN ({marks(part)})", part)
            counted.holding.update({**dict.fromkeys(part, 0), **dict(rows)})

    def _compounds(self, counted: _Counted, joined: Sequence[tuple[str, str]], asked: set[str]) -> tuple[str, ...]:
        """Names of the tree whose parts stand side by side in the question: "make room for write", "file name".

        ``joined`` are names with their stems.
        """
        found = []
        for name, stem in joined:
            if stem and stem not in asked and counted.holding.get(stem):
                asked.add(stem)
                found.append(name)
        return tuple(found[:MOST_COMPOUNDS])


_MOST_STEMS = 100_000  # about 15 MB
_MOST_TEXTS = 8_000  # whose stems are kept, mostly titles: about 10 MB
_KEPT_CHARS = 2_000  # of the longest of them
_ROWS_A_STATEMENT = 100
_MOST_WORDINGS = 16  # questions whose reading is kept: one search asks for it several times
_PAIRED_CHARS = 4_000  # of a message, read for neighbours
_COMPOUND_CHARS = 400  # of a question, read for names spelt out: 60 words are 400 look-ups


def _worth_asking(terms: Sequence[Term]) -> set[str]:
    """The stems of the rarest words, as many as time allows; of those that nothing holds as many again."""
    kept: set[str] = set()
    cost = 0
    for term in sorted((term for term in terms if term.holding), key=lambda term: (term.holding, term.stem))[
        :MOST_WORDS
    ]:
        cost += term.holding
        if cost > MOST_HELD and len(kept) >= FEWEST_WORDS:
            break
        kept.add(term.stem)
    return kept.union([term.stem for term in terms if not term.holding][:MOST_WORDS])


@lru_cache(maxsize=_MOST_WORDINGS)
def _joined(text: str) -> tuple[str, ...]:
    """Neighbouring words as one, in both spellings of names, the longest first at each place."""
    spelt = [word.lower() for word in _SPELT.findall(text)]
    found: dict[str, None] = {}
    for start, first in enumerate(spelt):
        for length in range(min(COMPOUND_WORDS, len(spelt) - start), 1, -1):
            parts = spelt[start : start + length]
            if first in STOP_WORDS and (length == 2 or parts[-1] in STOP_WORDS):
                continue
            found["".join(parts)] = None
            found["_".join(parts)] = None
    return tuple(found)
