"""What can go wrong in the world while indexing, each error with the way out.

    IndexerError
    ├── TreeError            the tree to index is missing, empty or unreadable
    ├── DataFolderError      the data folder cannot be used
    │   ├── FolderBusyError      another process writes to it
    │   ├── SchemaError          it was written by another version
    │   │   └── OldFormatError       by an older one, and indexing makes it anew or brings it up to date
    │   ├── VectorServerError    the Chroma server does not answer as it should
    │   └── FolderFullError      disk or quota is used up
    ├── EmbedderError        the embedding model is missing or does not answer
    ├── QuestionError        a question about the index cannot be asked like this
    └── Cancelled            the caller asked to stop; finished files are kept

Bad C++ and unreadable files are no errors: they are Problems in the report.
"""


class IndexerError(Exception):
    """One sentence for the user and a hint that says the way out."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class TreeError(IndexerError):
    """The tree to index is missing, empty or unreadable."""


class DataFolderError(IndexerError):
    """The data folder cannot be used."""


class FolderBusyError(DataFolderError):
    """Another process writes to the data folder."""


class VectorServerError(DataFolderError):
    """The Chroma server does not answer as it should; what waits for it is kept."""


class SchemaError(DataFolderError):
    """The data folder was written by another version of the index format."""


class OldFormatError(SchemaError):
    """The index was written by an older version: whoever indexes its tree brings it up to date, or makes it anew."""


class FolderFullError(DataFolderError):
    """The disk, or the size the index may have, is used up."""


class EmbedderError(IndexerError):
    """The embedding model is missing or does not answer."""


class QuestionError(IndexerError):
    """A question about the index cannot be asked like this: a broken pattern, a path that several files have."""


class Cancelled(IndexerError):
    """The caller asked to stop. What was finished is kept, and the next run goes on from there."""
