"""Which words of a text name code. Knows nothing of any tree."""

import re
from collections.abc import Collection

# What can only be code: between backticks, qualified, in a spelling that prose does not have, or with parentheses.
CODE_WORD = re.compile(
    r"`([^`\n]+)`|\b([A-Za-z_]\w*(?:::~?\w+)+)"
    r"|\b([a-z]+[A-Z]\w*|[A-Z][a-z0-9]+[A-Z]\w*|[A-Z]{2,}[a-z]{2,}\w*|\w+_\w+)\b|\b([A-Za-z_]\w*)(?=\(\))"
)
NAME = re.compile(r"\b[A-Za-z_]\w*")
# Words of the language itself (C++ standard, lex.key, and the directives of cpp.pre): they name nothing in a tree.
LANGUAGE = frozenset(
    """alignas alignof asm auto bool break case catch char char16_t char32_t char8_t class co_await co_return co_yield
    concept const const_cast consteval constexpr constinit continue decltype default define defined delete do double
    dynamic_cast elif else endif enum error explicit export extern false final float for friend goto if ifdef ifndef
    import include inline int line long module mutable namespace new noexcept nullptr operator override pragma private
    protected public register reinterpret_cast requires return short signed sizeof static static_assert static_cast
    struct switch template this thread_local throw true try typedef typeid typename undef union unsigned using virtual
    void volatile wchar_t while""".split()
)


def cut_off(name: str, text: str, known: Collection[str]) -> bool:
    """Whether a text ends in the middle of this name: with the beginning of a known one, and nothing behind it."""
    return text.endswith(name) and any(whole.startswith(name) for whole in known)
