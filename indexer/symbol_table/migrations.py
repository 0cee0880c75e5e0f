"""Indexes of older formats brought to the present one, step by step, without reading their tree again.

A step is one transaction that ends with the number of the format it has reached: killed at any point, it is tried again
by whoever opens the index for writing next. Its statements stay as they are when the tables change further. Knows
nothing of what the rows mean to others.
"""

from collections.abc import Mapping

import apsw

# By the format that a step begins at. What has no step is made anew from its tree.
# 3 to 4: the stored graph names its chunks, so that it can be older than the table, and which vectors changed with
# which number is kept. Both begin empty: the graph is made again when the index is next refreshed.
STEPS: Mapping[int, str] = {
    3: """
DROP TABLE walks;
CREATE TABLE walks(
    made_of TEXT PRIMARY KEY, chunks TEXT NOT NULL, offsets BLOB NOT NULL, targets BLOB NOT NULL,
    shares BLOB NOT NULL);
CREATE TABLE vector_log(embedder INTEGER NOT NULL, number INTEGER NOT NULL, chunk TEXT NOT NULL);
CREATE INDEX vector_log_by_number ON vector_log(embedder, number);
"""
}


def format_of(connection: apsw.Connection) -> int | None:
    """The format of an index; None where it says none. Raises apsw.Error for a file that is no index."""
    found = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchall()
    try:
        return int(str(found[0][0]))
    except (IndexError, ValueError):
        return None


def can_migrate(found: int | None, newest: int) -> bool:
    """Whether there are steps from one format to another."""
    return found is not None and found < newest and all(step in STEPS for step in range(found, newest))


def migrate(connection: apsw.Connection, newest: int) -> int:
    """Takes all steps to a format; nothing happens where one is missing. Returns how many it took.

    Raises apsw.Error when the disk is full or the index is in use; what was finished stays.
    """
    taken = 0
    while can_migrate(found := format_of(connection), newest):
        assert found is not None
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(STEPS[found])
            connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(found + 1),))
            connection.execute("COMMIT")
        finally:  # whatever came, half a step must not stay
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        taken += 1
    return taken
