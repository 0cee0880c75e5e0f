"""Full-text search over the words of chunks: BM25 with weighted columns, in SQLite's FTS5."""

from math import log

from indexer.model import ChunkId
from indexer.symbol_table.database import Database
from indexer.words import query_words, words

# BM25 weights of the columns of chunk_words, in their order. Range 0 to 10; start values of the retrieval notes
# (name 8, signature 4, doc 3, path 3, body 1), to be fitted on labelled questions.
COLUMN_WEIGHTS = (8.0, 4.0, 3.0, 3.0, 1.0)

_SEARCH = (
    "SELECT chunks.id, found.score FROM"
    f" (SELECT rowid, -bm25(chunk_words, {', '.join(map(str, COLUMN_WEIGHTS))}) AS score FROM chunk_words"
    " WHERE chunk_words MATCH ? ORDER BY score DESC LIMIT ?) AS found JOIN chunks ON chunks.rowid = found.rowid"
    " ORDER BY found.score DESC, chunks.id"
)


class TextSearch:
    """Reads the full-text index of one table."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def search(self, text: str, limit: int) -> list[tuple[ChunkId, float]]:
        """(chunk, BM25 score), best first, equal ones by id. Never raises on odd text; nothing asked finds nothing."""
        terms = query_words(text)
        if not terms or limit < 1:
            return []
        match = " OR ".join(f'"{term}"' for term in terms)  # words hold no quotes
        rows = self._db.rows(_SEARCH, (match, limit + 1))
        if len(rows) > limit and rows[limit][1] == rows[limit - 1][1]:
            # Row ids would decide which of equals the limit cuts, and they differ between a refresh and a rebuild.
            rows = [row for row in self._db.rows(_SEARCH, (match, -1)) if row[1] >= rows[limit][1]]
        return [(ChunkId(chunk), float(score)) for chunk, score in rows[:limit]]

    def holds(self, word: str) -> bool:
        """Whether any chunk holds the word, whole, in any letter case."""
        (whole, *_) = words(word) or [""]
        return bool(whole) and bool(
            self._db.row("SELECT 1 FROM chunk_words WHERE chunk_words MATCH ? LIMIT 1", (f'"{whole}"',))
        )

    def stems(self, text: str) -> list[str]:
        """The text's words as the full-text index compares them: split and stemmed, in order, with repeats."""
        return self._db.stems(words(text))

    def term_weights(self, text: str) -> list[tuple[str, float]]:
        """The distinct stems of a query with their inverse document frequency: ln(1 + (N - n + 0.5) / (n + 0.5)).

        The formula is that of BM25 (Robertson and Zaragoza 2009), kept positive as in Lucene.
        """
        self._db.run("CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab(main, chunk_words, row)")
        total = self._db.number("SELECT count(*) FROM chunks")
        weighted = []
        for stem in dict.fromkeys(self._db.stems(query_words(text))):
            row = self._db.row("SELECT doc FROM temp.vocabulary WHERE term = ?", (stem,))
            holding = int(row[0]) if row else 0
            weighted.append((stem, log(1 + (total - holding + 0.5) / (holding + 0.5))))
        return weighted
