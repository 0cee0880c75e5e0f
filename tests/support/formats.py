"""Indexes turned back into the formats that older programs wrote. For tests only."""

from pathlib import Path

import apsw

# What 4 brought, taken back.
_FROM_4_TO_3 = """
DROP TABLE IF EXISTS walks;
CREATE TABLE walks(made_of TEXT PRIMARY KEY, offsets BLOB NOT NULL, targets BLOB NOT NULL, shares BLOB NOT NULL);
DROP TABLE IF EXISTS vector_log;
UPDATE meta SET value = '3' WHERE key = 'format';
"""


def to_format_3(table: Path) -> None:
    """Nobody has the index open."""
    connection = apsw.Connection(str(table))
    try:
        connection.execute(f"BEGIN;{_FROM_4_TO_3}COMMIT;")
    finally:
        connection.close()
