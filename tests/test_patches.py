"""A patch is checked before git sees it: what passes changes the files that it names, and nothing else."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from difflib import unified_diff
from pathlib import Path
from shutil import rmtree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.errors import PatchError
from agents.patches import Bounds, Denied, PatchedFile, check
from tests.support.trees import write_tree

FILES: dict[str, str | bytes] = {
    "a.cc": "int a;\nint b;\nint c;\nint d;\nint e;\n",
    "src/b.cc": "one\ntwo\nthree\nfour\n",
    "src/with space.h": "x\ny\nz\n",
}
EDIT = """\
diff --git a/a.cc b/a.cc
--- a/a.cc
+++ b/a.cc
@@ -1,3 +1,4 @@
 int a;
-int b;
+int bee;
+int more;
 int c;
"""
HUNK = EDIT.partition("+++ b/a.cc\n")[2]


def git(folder: Path, *arguments: str, given: str = "") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["git", "-c", "core.autocrlf=false", *arguments],
        cwd=folder,
        capture_output=True,
        input=given.encode(),
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"},
    )


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository in it, so that a patch that leaves the one is seen in the other."""
    return tmp_path_factory.mktemp("grounds")


def fresh(grounds: Path) -> Path:
    for place in grounds.iterdir():
        rmtree(place) if place.is_dir() else place.unlink()
    root = write_tree(grounds / "tree", FILES)
    git(root, "init", "--quiet")
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def refused(text: str, because: str) -> None:
    with pytest.raises(PatchError) as caught:
        check(text)
    assert because in caught.value.message
    assert caught.value.hint


# Laws

LINE = st.text(st.sampled_from("ab-+@ \\\t\r\u00e9\u4e16"), max_size=6)
LINES = st.lists(LINE, max_size=12)


@st.composite
def diffs(draw: st.DrawFn) -> tuple[list[str], list[str], str]:
    """(before, after, a diff of both with as much context as chance has it)."""
    before = draw(LINES)
    after = list(before)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(after)))
        after[at : at + draw(st.integers(0, 2))] = draw(st.lists(LINE, max_size=2))
    old, new = ([f"{line}\n" for line in lines] for lines in (before, after))
    told = unified_diff(old, new, "a/x.cc", "b/x.cc", n=draw(st.integers(1, 3)))
    return before, after, "".join(told)


@given(diffs())
def test_a_diff_is_counted_and_written_again_as_it_was(case: tuple[list[str], list[str], str]) -> None:
    before, after, text = case
    if before == after:
        refused(text, "changes nothing")
        return
    found = check(text)
    (file,) = found.files
    assert file.added - file.removed == len(after) - len(before)
    assert found.notes == ()
    assert check(found.text) == found
    body = [line for line in text.split("\n")[2:] if not line.startswith("@@")]
    assert [line for line in found.text.split("\n")[3:] if not line.startswith("@@")] == body


@settings(max_examples=15)
@given(case=diffs())
def test_a_diff_that_passes_does_to_the_file_what_it_says(
    grounds: Path, case: tuple[list[str], list[str], str]
) -> None:
    before, after, text = case
    root = fresh(grounds)
    (root / "x.cc").write_bytes("".join(f"{line}\n" for line in before).encode())
    if before == after:
        return
    applied = git(root, "apply", "--whitespace=nowarn", given=check(text).text)
    assert applied.returncode == 0, applied.stderr
    assert (root / "x.cc").read_bytes() == "".join(f"{line}\n" for line in after).encode()


NAMES = st.sampled_from(
    [
        *(
            "a.cc",
            "src/b.cc",
            "src/with space.h",
            "new.cc",
            "src/deep/new.h",
            "/etc/passwd",
            "../outside",
            "src/../a.cc",
        ),
        *(".git/config", ".GIT/config", "x/.git/hooks/pre-commit", "a.cc\t2026-01-01", '"a.cc"', '"src/\\142.cc"'),
        *("link/x", ".gitmodules", "CLAUDE.md", "c:\\x", "src\\b.cc", "a.cc ", "./a.cc", "/dev/null", "dev/null"),
    ]
)
HEADS = st.one_of(
    st.builds("diff --git a/{} b/{}".format, NAMES, NAMES),
    st.builds("diff --git a/{0} b/{0}".format, NAMES),
    st.builds("--- a/{0}\n+++ b/{0}".format, NAMES),
    st.builds("--- {}\n+++ {}".format, NAMES, NAMES),
    st.builds("--- /dev/null\n+++ b/{}".format, NAMES),
    st.builds("--- a/{}\n+++ /dev/null".format, NAMES),
    st.builds("rename from {}\nrename to {}".format, NAMES, NAMES),
    st.builds("copy from {}\ncopy to {}".format, NAMES, NAMES),
    st.sampled_from(
        [
            *("new file mode 100644", "new file mode 120000", "new file mode 100755", "deleted file mode 100644"),
            *(
                "old mode 100644\nnew mode 100755",
                "index 1..2 160000",
                "index 12ab..34cd 100644",
                "similarity index 90%",
            ),
        ]
    ),
)
BODIES = st.one_of(
    st.sampled_from(
        [
            HUNK,
            "@@ -1,2 +1,2 @@\n-one\n+ONE\n two\n",
            "@@ -9,9 +9,9 @@\n one\n-two\n+TWO\n three\n",
            "@@ -0,0 +1,2 @@\n+fresh\n+file\n",
            "@@ -1,3 +0,0 @@\n-x\n-y\n-z\n",
            "@@ -1,3 +1,3 @@\n x\n-y\n+Y\n z\n\\ No newline at end of file\n",
            "GIT binary patch\nliteral 3\nKcmZQzWM*Ly0003$00aO4\n\n",
            "",
        ]
    ),
)


@st.composite
def soups(draw: st.DrawFn) -> str:
    """Something like a patch: parts of patches, most of which contradict each other."""
    parts = []
    for _ in range(draw(st.integers(1, 2))):
        parts += [f"{head}\n" for head in draw(st.lists(HEADS, min_size=1, max_size=3))]
        parts.append(draw(BODIES))
    return "".join(parts)


@settings(max_examples=100)
@example("rename from a.cc\nrename to new.cc\n")
@example("diff --git a/a.cc b/new.cc\nrename from a.cc\nrename to new.cc\n")
@example("diff --git a/src/with space.h b/src/with space.h\ndeleted file mode 100644\n")
@example("diff --git a/new.cc b/new.cc\nnew file mode 100644\n")
@example("--- /dev/null\n+++ b/src/deep/new.h\n@@ -0,0 +1,2 @@\n+fresh\n+file\n")
@given(text=soups())
def test_what_passes_changes_the_named_files_and_nothing_else(grounds: Path, text: str) -> None:
    try:
        found = check(text)
    except PatchError:
        return
    root = fresh(grounds)
    (root / "link").symlink_to("..")
    before = contents(grounds)
    if git(root, "apply", "--check", given=found.text).returncode:
        return
    assert git(root, "apply", given=found.text).returncode == 0
    after = contents(grounds)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    named = {f"tree/{path}" for file in found.files for path in (file.path, file.before) if path}
    assert changed <= named
    for path in changed & after.keys():
        assert not (grounds / path).is_symlink()
        assert not (grounds / path).stat().st_mode & 0o111
    for file in found.files:
        assert (root / file.path).exists() is not file.deleted


@given(st.text(max_size=200) | st.lists(st.one_of(HEADS, BODIES, LINE), max_size=8).map("\n".join))
def test_whatever_is_given_is_a_patch_or_is_refused_in_a_sentence(text: str) -> None:
    try:
        found = check(text)
    except PatchError as error:
        assert all((error.message, error.hint))  # noqa: PT017 - most of them are, and a few are patches
    else:
        assert check(found.text).text == found.text


# What no patch may do


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "../x", "src/../../x", "src//b.cc", "./a.cc", "src/.", "C:/x", "c:x", "~/x\\y", "src\\b.cc"),
        *(".git/config", ".Git/config", "sub/.git/hooks/post-checkout", ".git./config", ".git /config", "git~1/config"),
        *(
            ".g\u200cit/config",
            ".git::$INDEX_ALLOCATION/x",
            ".gitmodules",
            ".GITATTRIBUTES",
            ".github/workflows/ci.yml",
        ),
        *(
            ".codehub.toml",
            ".codehubignore",
            ".mcp.json",
            ".vscode/tasks.json",
            ".cursor/rules",
            ".claude/settings.json",
        ),
        *("Jenkinsfile", "sub/azure-pipelines.yml", ".devcontainer.json", "AGENTS.local.md", ".roomodes"),
        *("docs/AGENTS.md", "claude.md", ".envrc", ".husky/pre-commit", "gi7eba~1", "x\u202e.cc", "a\u00a0b.cc", "x."),
        *(
            "\uff0egit/config",
            ".g\u0131t\u0000",
            "a" * 500,
            "/".join("a" * 50),
            "x" * 250,
            "nul\x7f.cc",
            "tab\u2028.cc",
        ),
    ],
)
def test_a_path_that_leads_out_or_is_acted_upon_is_refused(path: str) -> None:
    for text in (
        f"--- a/{path}\n+++ b/{path}\n{HUNK}",
        f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n",
        f"diff --git a/a.cc b/{path}\nrename from a.cc\nrename to {path}\n",
        f"diff --git a/{path} b/new.cc\nrename from {path}\nrename to new.cc\n",
    ):
        with pytest.raises(PatchError):
            check(text)


def test_a_quoted_name_is_read_before_it_is_judged() -> None:
    assert check(f'--- "a/\\141.cc"\n+++ "b/\\141.cc"\n{HUNK}').files[0].path == "a.cc"
    assert check('--- "a/\\303\\251.cc"\n+++ "b/\\303\\251.cc"\n' + HUNK).files[0].path == "\u00e9.cc"
    refused(f'--- "a/\\056git/x"\n+++ "b/\\056git/x"\n{HUNK}', "git and what builds on it")
    refused(f'--- "a/\\056\\056/x"\n+++ "b/\\056\\056/x"\n{HUNK}', "no plain path")
    refused(f'--- "a/\\377.cc"\n+++ "b/\\377.cc"\n{HUNK}', "not valid UTF-8")
    refused(f'--- "a/x\n+++ "b/x\n{HUNK}', "cannot be read")


@pytest.mark.parametrize(
    ("head", "because"),
    [
        ("new file mode 120000\n--- /dev/null\n+++ b/a.cc\n@@ -0,0 +1 @@\n+/etc/passwd\n", "symbolic link"),
        ("new file mode 160000\n--- /dev/null\n+++ b/a.cc\n@@ -0,0 +1 @@\n+Subproject commit 1\n", "submodule"),
        ("index 12..34 160000\n--- a/a.cc\n+++ b/a.cc\n" + HUNK, "submodule"),
        ("index 12..34 120000\n--- a/a.cc\n+++ b/a.cc\n" + HUNK, "symbolic link"),
        ("deleted file mode 120000\n--- a/a.cc\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", "symbolic link"),
        ("new file mode 100755\n--- /dev/null\n+++ b/a.cc\n@@ -0,0 +1 @@\n+x\n", "can be run"),
        ("old mode 100644\nnew mode 100755\n", "mode"),
        ("old mode 100644\nnew mode 120000\n", "mode"),
        ("similarity index 100%\ncopy from a.cc\ncopy to b.cc\n", "copies"),
        ("new file mode 040000\n", "no regular file"),
        ("index 12..34\nGIT binary patch\nliteral 1\n", "binary"),
        ("index 12..34\nBinary files a/a.cc and b/a.cc differ\n", "binary"),
        ("rename from src/b.cc\nrename to a.cc\n", "different files"),
        ("--- a/a.cc\n+++ b/src/b.cc\n" + HUNK, "different files"),
        ("--- a/src/b.cc\n+++ b/src/b.cc\n" + HUNK, "different files"),
        ("new file mode 100644\n--- a/a.cc\n+++ b/a.cc\n@@ -1 +1,2 @@\n x\n+y\n", "added ones"),
        ("new file mode 100644\ndeleted file mode 100644\n", "made and deleted"),
        ("deleted file mode 100644\n--- a/a.cc\n+++ b/a.cc\n@@ -1 +0,0 @@\n-x\n", "whether a file is deleted"),
        ("", "Nothing of"),
        ("--- a/a.cc\n+++ b/a.cc\n", "nothing of it changed"),
        ("--- a/a.cc\n+++ b/a.cc\n@@ -1,2 +1,2 @@\n x\n y\n", "changes nothing"),
        ("--- a/a.cc\n+++ b/a.cc\n@@ ... @@\n-x\n+y\n", "head of a hunk"),
        ("--- a/a.cc\n+++ b/a.cc\n@@ -1,2 +1,2 @@\n-x\n+y\nwhat is this\n", "begins with none of"),
    ],
)
def test_what_is_more_than_text_or_contradicts_itself_is_refused(head: str, because: str) -> None:
    refused(f"diff --git a/a.cc b/a.cc\n{head}", because)


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "changes nothing"),
        ("Here is how I would do it.\n", "changes nothing"),
        ("*** Begin Patch\n*** Update File: a.cc\n", "another tool"),
        ("@@ -1 +1 @@\n-x\n+y\n", "before any file is named"),
        ("new file mode 120000\n", "before any file is named"),
        ("--- /dev/null\n+++ /dev/null\n@@ -1 +1 @@\n-x\n+y\n", "added ones"),
        (EDIT.replace("diff --git a/a.cc b/a.cc\n", "").replace("+++ b/a.cc", "+++ b/src/b.cc"), "before and"),
        (EDIT + EDIT, "two parts about 'a.cc'"),
        (EDIT + EDIT.replace("a.cc", "A.cc"), "two parts about"),
        (EDIT + "and so on\n", "not clear"),
        (EDIT + "\0", "zero byte"),
        (EDIT + "\ud800", "UTF-8"),
        ("diff --git a/x y b/x z\nnew file mode 100644\n", "cannot be told"),
        ("diff --git a/a.cc b/b.cc\nrename from a.cc\n", "Only one of both names"),
    ],
)
def test_what_is_no_patch_or_has_two_meanings_is_refused(text: str, because: str) -> None:
    refused(text, because)


def test_sizes_are_bounded() -> None:
    for bounds, because in (
        (Bounds(bytes=len(EDIT) - 1), "bytes"),
        (Bounds(files=1), "files"),
        (Bounds(lines=2), "lines"),
        (Bounds(line_bytes=5), "longer"),
    ):
        with pytest.raises(PatchError, match=because):
            check(EDIT + EDIT.replace("a.cc", "b.cc") if because == "files" else EDIT, bounds)
    assert check(EDIT, Bounds(len(EDIT), 1, 3, 20))
    refused(EDIT * 5_000, "bytes")


def test_what_is_denied_can_be_chosen() -> None:
    denied = (Denied("*.proto", "it is generated from"),)
    assert check(EDIT.replace("a.cc", "AGENTS.md"), denied=denied)
    with pytest.raises(PatchError, match="it is generated from"):
        check(EDIT.replace("a.cc", "X.Proto"), denied=denied)


# What is mended


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (EDIT, ""),
        (EDIT.replace("diff --git a/a.cc b/a.cc\n", ""), ""),
        (EDIT.replace("a/a.cc", "a.cc").replace("b/a.cc", "a.cc"), ""),
        (EDIT.replace("a/a.cc", "i/a.cc").replace("b/a.cc", "w/a.cc"), ""),
        (f"--- ./a.cc\n+++ ./a.cc\n{HUNK}", ""),
        (f"--- a.cc\t2026-01-01 10:00:00\n+++ a.cc\t2026-01-01 10:00:01\n{HUNK}", ""),
        (f"From 12ab\nSubject: [PATCH] Name it\n\n a.cc | 3 ++-\n\n{EDIT}-- \n2.39.5\n\n", ""),
        (f"Index: a.cc\n=======\n{EDIT}", ""),
        (EDIT.rstrip("\n"), "line end"),
        (f"```diff\n{EDIT}```\n", "fence"),
        (EDIT.replace("\n", "\r\n"), "Carriage returns"),
        (EDIT.replace("-1,3 +1,4", "-1,7 +1,2"), "put right"),
        (EDIT.replace("-1,3 +1,4", "-1 +1"), "put right"),
        (EDIT.replace("-1,3 +1,4", "-1,3 +77,4"), ""),
        (EDIT.replace("-1,3 +1,4", "-1,30 +1,40") + "\n\n", "put right"),
    ],
)
def test_what_leaves_one_meaning_only_is_mended_and_told(text: str, note: str) -> None:
    found = check(text)
    assert found.text == EDIT
    assert found.files == (PatchedFile("a.cc", 2, 1),)
    assert (found.added, found.removed) == (2, 1)
    assert note in " ".join(found.notes)
    assert bool(found.notes) is bool(note)


def test_an_empty_line_of_context_may_have_lost_its_space() -> None:
    text = "--- a/a.cc\n+++ b/a.cc\n@@ -1,3 +1,3 @@\n x\n\n-y\n+z\n"
    assert "\n x\n \n-y\n+z\n" in check(text).text
    assert check(text).notes == ()


def test_removed_and_added_lines_that_look_like_headers_stay_lines() -> None:
    body = "@@ -1,2 +1,2 @@\n--- a comment of SQL\n+++ x;\n y\n"
    found = check(f"--- a/a.sql\n+++ b/a.sql\n{body}")
    assert found.files == (PatchedFile("a.sql", 1, 1),)
    assert body in found.text
    refused(f"--- a/a.sql\n+++ b/a.sql\n{body.replace('-1,2', '-1,9')}", "what belongs to it is not clear")


def test_a_file_with_carriage_returns_keeps_them() -> None:
    text = "--- a/a.cc\n+++ b/a.cc\n@@ -1,2 +1,2 @@\n x\r\n-y\r\n+z\r\n"
    found = check(text)
    assert text in found.text
    assert found.notes == ()


def test_new_deleted_and_moved_files_are_named_as_such() -> None:
    found = check(
        "diff --git a/n.cc b/n.cc\nnew file mode 100644\nindex 000..123\n--- /dev/null\n+++ b/n.cc\n@@ -1,0 +1 @@\n+x\n"
        "diff --git a/e.cc b/e.cc\nnew file mode 100644\n"
        "diff --git a/d.cc b/d.cc\ndeleted file mode 100755\n--- a/d.cc\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        "diff --git a/m.cc b/o.cc\nsimilarity index 90%\nrename from m.cc\nrename to o.cc\n"
        "--- a/m.cc\n+++ b/o.cc\n@@ -1 +1,2 @@\n x\n+y\n"
    )
    assert found.files == (
        PatchedFile("n.cc", 1, 0, new=True),
        PatchedFile("e.cc", 0, 0, new=True),
        PatchedFile("d.cc", 0, 1, deleted=True),
        PatchedFile("o.cc", 1, 0, before="m.cc"),
    )
    assert "@@ -0,0 +1,1 @@" in found.text
    case = check("diff --git a/readme.md b/README.md\nrename from readme.md\nrename to README.md\n")
    assert case.files == (PatchedFile("README.md", 0, 0, before="readme.md"),)


@pytest.mark.parametrize("character", ["\u202e", "\u200b", "\u2066", "\U000e0041"])
def test_added_lines_that_nobody_can_read_are_told(character: str) -> None:
    found = check(EDIT.replace("int bee", f"int{character} bee"))
    assert found.notes == ("a.cc:2 gets characters that cannot be seen.",)


def pairs() -> Iterator[tuple[str, str]]:
    yield "a line of spaces", "+" + " " * 399_000
    yield "many heads", "--- a/x\n+++ b/x\n" * 20_000
    yield "many marks", "@@ -1 +1 @@\n" * 20_000
    yield "many quotes", 'diff --git "a' + "\\\\" * 100_000
    yield "many spaces between names", "diff --git " + "a " * 100_000
    yield "many empty lines", "--- a/x\n+++ b/x\n@@ -1,99999 +1,2 @@\n-x" + "\n" * 300_000
    yield "many lying hunks", "--- a/x\n+++ b/x\n" + "@@ -1,9999999 +1,9 @@\n-x\n+y\n" * 15_000
    yield "many hunks and empty lines", "--- a/x\n+++ b/x\n" + "@@ -1 +1 @@\n-x\n+y\n\n\n\n\n" * 15_000


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in pairs()])
def test_hostile_text_is_read_in_a_moment(text: str) -> None:
    with suppress(PatchError):
        check(text)
