"""Patterns that are compiled late do what those do that are compiled at once."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.patterns import later

EXPRESSIONS = (r"(?P<word>\w+)\s*=\s*(\d+)", r"^a|b$", r"", r"[^x]{2,3}")


@given(
    st.sampled_from(EXPRESSIONS), st.text("abx =19\n_", max_size=20), st.sampled_from((0, re.MULTILINE, re.IGNORECASE))
)
def test_a_late_pattern_finds_what_an_early_one_finds(expression: str, text: str, flags: int) -> None:
    early, late = re.compile(expression, flags), later(expression, flags)
    assert late.pattern == early.pattern
    assert [found.span() for found in late.finditer(text)] == [found.span() for found in early.finditer(text)]
    assert (late.findall(text), late.split(text), late.sub("-", text)) == (
        early.findall(text),
        early.split(text),
        early.sub("-", text),
    )
    assert (late.flags, late.groups, late.groupindex) == (early.flags, early.groups, early.groupindex)
    assert late.match is late.match  # compiled once


def test_what_is_no_expression_is_told_at_its_first_use() -> None:
    broken = later("(")
    assert broken.pattern == "("
    with pytest.raises(re.error):
        broken.match("")
