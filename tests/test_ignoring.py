"""Patterns of ignore files, in the fast way and as pathspec alone reads them."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec
from pathspec.pattern import RegexPattern

from indexer.ignoring import Patterns, patterns_of

PIECES = st.sampled_from(
    [
        "*",
        "**",
        "?",
        "/",
        "a",
        "b",
        "build",
        ".cc",
        ".tar.gz",
        ".",
        "[ab]",
        "[!a]",
        "\\",
        "!",
        "#",
        "-",
        "_",
        " ",
        "x.y",
    ]
)
LINES = st.lists(PIECES, min_size=0, max_size=5).map("".join)
PATHS = st.lists(
    st.sampled_from(["a", "b", "build", "a.cc", "x.y", "ab", ".cc", "a.tar.gz", "#a", "a b", "buildb", "!a"]),
    min_size=1,
    max_size=4,
).map("/".join)


def as_pathspec_alone(lines: Sequence[str], path: str, *, folder: bool) -> bool | None:
    """The last pattern that matches the entry itself, tried one after another against the whole path."""
    found = None
    for line in lines:
        try:
            patterns = GitIgnoreSpec.from_lines([line]).patterns
        except ValueError:
            continue
        for pattern in patterns:
            assert isinstance(pattern, RegexPattern)
            if pattern.include is None or pattern.regex is None:
                continue
            itself = any(match.groupdict().get("ps_d") is None for match in pattern.regex.finditer(path))
            slash = folder and any(
                match.end() > len(path) and match.groupdict().get("ps_d")
                for match in pattern.regex.finditer(f"{path}/")
            )
            if itself or slash:
                found = pattern.include
    return found


@given(st.lists(LINES, max_size=6), PATHS, st.booleans())
@example(["*", "!*/", "!*.cc"], "a/build", True)
@example(["build/", "!build"], "a/build", False)
@example(["a/**", "!a/b/"], "a/b", True)
@example(["*.tar.gz", "!a.tar.gz"], "b/a.tar.gz", False)
def test_the_last_pattern_that_means_an_entry_decides_however_it_is_looked_up(
    lines: list[str], path: str, folder: bool
) -> None:
    assert Patterns(lines).verdict(path, folder=folder) == as_pathspec_alone(lines, path, folder=folder)


@pytest.mark.parametrize("line", ["", "   ", "# words", "!", "\\", "!\\"])
def test_a_line_that_says_nothing_is_no_pattern(line: str) -> None:
    assert not Patterns([line])
    assert Patterns([line]).verdict("a", folder=False) is None


def test_an_answer_that_is_kept_is_that_of_its_own_pattern_and_kind() -> None:
    patterns = patterns_of(("build/", "*.o"))
    assert patterns is patterns_of(("build/", "*.o"))
    for _ in range(2):
        assert patterns.verdict("x/build", folder=True) is True
        assert patterns.verdict("x/build", folder=False) is None
        assert patterns.verdict("y/a.o", folder=False) is True
    assert patterns_of(("build", "!*.o")).verdict("y/a.o", folder=False) is False


def test_names_of_any_number_are_looked_up_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.ignoring._MOST_NAMES", 10)
    patterns = Patterns(["*7"])
    found = [patterns.verdict(f"n{number}", folder=False) for number in range(100)]
    assert found.count(True) == 10
    assert len(patterns._known) <= 10


def test_large_ignore_files_are_read_but_not_kept() -> None:
    lines = tuple(f"name{number}?.cc" for number in range(2_000))
    assert patterns_of(lines) is not patterns_of(lines)
    assert patterns_of(lines).verdict("a/name1999x.cc", folder=False) is True
    assert patterns_of(lines).verdict("a/name2000x.cc", folder=False) is None
    assert patterns_of(("a" * 100_000, "b")).verdict("b", folder=False) is True
