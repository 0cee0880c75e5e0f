"""What agents may have run: recipes and rules out of a file of the administrator's, and templates to begin with.

Knows neither who asks nor what the commands do, and runs nothing.
"""

from agents.recipes.model import (
    APPLY_PATCH,
    MOST_VALUE_CHARS,
    WRITE_BRANCH,
    Argument,
    Asking,
    Book,
    Does,
    Recipe,
    Rule,
    given,
)
from agents.recipes.reading import FILE, Shelf, limits_of, parse, path_of, read
from agents.recipes.templates import TEMPLATES, starting_file

__all__ = [
    "APPLY_PATCH",
    "FILE",
    "MOST_VALUE_CHARS",
    "TEMPLATES",
    "WRITE_BRANCH",
    "Argument",
    "Asking",
    "Book",
    "Does",
    "Recipe",
    "Rule",
    "Shelf",
    "given",
    "limits_of",
    "parse",
    "path_of",
    "read",
    "starting_file",
]
