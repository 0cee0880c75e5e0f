"""Retrieval measured on a tree's own comments and commits: what is asked is not known before, and figures repeat."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.config import Settings
from hub.errors import EvaluationError
from hub.evaluation import (
    FUSED,
    Snapshot,
    changed_snapshot,
    intervals,
    judged,
    measure,
    own_labels,
    patches,
    score,
    snapshot,
)
from hub.labels import Gold, Label, LabelKind
from indexer.errors import Cancelled, DataFolderError, TreeError
from indexer.index import DataFolder, Index
from indexer.model import Span
from indexer.pipeline import ignore_progress, never
from tests.support.trees import COUNTER, contents, index_of, write_tree

TOPICS = "cache lease writer merge footer quota cursor bloom journal mirror shard digest".split()


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git settings of whoever runs the tests do not count."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
    done = subprocess.run(
        ["git", *who, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def commit(root: Path, message: str, at: int) -> None:
    git(root, "add", "--all")
    when = f"{1_700_000_000 + at * 3600} +0000"
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(
        ["git", *who, "-C", str(root), "commit", "--quiet", "--message", message, "--date", when],
        env={**os.environ, "GIT_COMMITTER_DATE": when},
        timeout=60,
        check=True,
    )


def body(topic: str, number: int) -> str:
    name = topic.capitalize()
    return (
        f"// Takes the oldest {topic} entry away and tells who held it last.\n"
        f"int Evict{name}(int limit) {{\n  return limit - {number};\n}}\n"
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Twelve files, each changed once by a commit of its own; the later half of these commits can be asked for."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet")
    write_tree(root, {"src/main.cc": "int main() {}\n"})
    commit(root, "Begin", -1)
    write_tree(root, {f"src/{topic}.cc": body(topic, 0) for topic in TOPICS})
    commit(root, "Write", 0)
    for number, topic in enumerate(TOPICS, 1):
        write_tree(root, {f"src/{topic}.cc": body(topic, number) + f"int later{topic};\n"})
        commit(root, f"Let the {topic} shrink\n\nIt kept zyx{topic} forever when the limit was low.", number)
    return root


@pytest.fixture
def plain(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", backend="none", embeddings="none", index_workers=1)


@contextmanager
def made(root: Path, settings: Settings, cancelled: Callable[[], bool] = never) -> Iterator[Snapshot]:
    with snapshot(root, settings, ignore_progress, cancelled) as found:
        yield found


def commits_of(labels: tuple[Label, ...]) -> list[Label]:
    return [label for label in labels if label.kind is LabelKind.COMMIT]


def test_a_snapshot_asks_for_later_commits_and_hidden_comments(repository: Path, plain: Settings) -> None:
    with made(repository, plain) as found:
        commits = commits_of(found.labels)
        assert [label.gold for label in commits] == [(f"src/{topic}.cc",) for topic in TOPICS[6:]]
        assert commits[0].question.startswith("Let the cursor shrink")
        descriptions = [label for label in found.labels if label.kind is LabelKind.DESCRIPTION]
        assert len(descriptions) == len(TOPICS)
        assert all(label.question.startswith("Takes the oldest") for label in descriptions)
        assert found.revision == git(repository, "rev-parse", "HEAD~6")


def test_what_is_asked_leaves_no_trace_in_the_snapshot(repository: Path, plain: Settings) -> None:
    with made(repository, plain) as found:
        index = found.index
        for topic in TOPICS[6:]:
            assert not index.text.holds(f"later{topic}"), "text of a later commit"
            assert not index.text.holds(f"zyx{topic}"), "words of a later message"
            assert index.commits.search(f"zyx{topic}", 10) == [], "a later commit"
        assert index.text.holds(f"later{TOPICS[0]}"), "or the test shows nothing"
        assert [path for path, _ in index.commits.search(f"zyx{TOPICS[0]}", 10)] == [f"src/{TOPICS[0]}.cc"]
        assert not index.text.holds("oldest"), "a comment that is asked"
        assert index.commits.search("oldest", 10) == [], "not through the commit that wrote it either"
        texts = [path.read_text() for path in index.root.rglob("*") if path.is_file()]
        assert not any("oldest" in text for text in texts)
        assert not list(index.root.rglob(".git"))


def test_a_snapshot_is_removed_and_the_tree_and_its_index_are_as_before(repository: Path, plain: Settings) -> None:
    before = git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")
    with made(repository, plain) as found:
        folder = found.index.root.parent
        assert folder.is_relative_to(plain.data)
    assert not folder.exists()
    assert (git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")) == before
    assert DataFolder(plain.data).workspaces() == []


def test_a_snapshot_that_is_stopped_is_removed_too(repository: Path, plain: Settings) -> None:
    with pytest.raises(Cancelled), made(repository, plain, lambda: True):
        pytest.fail("it was not stopped")
    assert not list(plain.data.glob("evaluation-*"))


def test_what_a_killed_run_left_is_removed_by_the_next(repository: Path, plain: Settings) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait(60)
    write_tree(plain.data, {f"evaluation-{gone.pid}-x/file": "", f"evaluation-{os.getpid()}-x/file": ""})
    with made(repository, plain):
        pass
    assert [path.name for path in plain.data.glob("evaluation-*")] == [f"evaluation-{os.getpid()}-x"]


def test_a_changed_snapshot_is_what_indexing_the_changed_tree_gives(repository: Path, plain: Settings) -> None:
    texts = {"src/cache.cc": "int EvictCache(int limit) {\n  return later(limit);\n}\n", "src/lease.cc": "\n\n"}
    with made(repository, plain) as found:
        before = contents(found.index)
        with changed_snapshot(found, texts, plain, repository, ignore_progress, never) as changed:
            index_of(changed.root, plain.data / "afresh")
            with Index.for_reading(DataFolder(plain.data / "afresh"), "w") as afresh:
                assert contents(changed) == contents(afresh)
            assert contents(changed) != before, "or the test shows nothing"
            assert changed.commits.search(f"zyx{TOPICS[0]}", 10), "it has the history up to the split"
            assert not changed.commits.search(f"zyx{TOPICS[-1]}", 10), "and no more"
        assert contents(found.index) == before


def test_a_snapshot_that_cannot_be_copied_is_an_error_in_a_sentence(
    repository: Path, plain: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with made(repository, plain) as found:
        monkeypatch.setattr("shutil.copytree", full)
        with (
            pytest.raises(DataFolderError, match="No space left on device"),
            changed_snapshot(found, {}, plain, repository, ignore_progress, never),
        ):
            pytest.fail("nothing was copied")


def test_patches_tell_what_commits_have_changed(repository: Path, tmp_path: Path) -> None:
    (told,) = patches(repository, [git(repository, "rev-parse", "HEAD")])
    assert list(told) == [f"src/{TOPICS[-1]}.cc"]
    assert f"+int later{TOPICS[-1]};" in told[f"src/{TOPICS[-1]}.cc"]
    assert list(patches(tmp_path, ["0" * 40])) == [{}]


def test_two_snapshots_of_a_tree_ask_the_same(repository: Path, plain: Settings) -> None:
    with made(repository, plain) as first, made(repository, replace(plain, data=plain.data / "other")) as second:
        assert first.labels == second.labels
        assert measure(judged(first.index, first.labels, (), never)) == measure(
            judged(second.index, second.labels, (), never)
        )


def test_a_renamed_file_is_asked_for_by_the_name_that_it_had(repository: Path, plain: Settings) -> None:
    (repository / "src/cursor.cc").rename(repository / "src/position.cc")
    commit(repository, "Call the cursor a position everywhere", 20)
    write_tree(repository, {"src/position.cc": body("cursor", 50) + "int latercursor;\n"})
    commit(repository, "Count positions from one instead of zero", 21)
    with made(repository, plain) as found:
        golds = {label.question: label.gold for label in commits_of(found.labels)}
        assert golds["Count positions from one instead of zero"] == ("src/cursor.cc",)


def test_a_folder_below_the_top_of_a_repository_is_asked_about_itself(repository: Path, plain: Settings) -> None:
    write_tree(repository, {"docs/guide.cc": "int guide;\n"})
    commit(repository, "Explain the guide in many words", 20)
    with made(repository / "src", plain) as found:
        assert {gold for label in commits_of(found.labels) for gold in label.gold} <= {f"{t}.cc" for t in TOPICS}
        assert commits_of(found.labels)


def test_a_tree_without_git_is_asked_for_comments_and_names_only(tmp_path: Path, plain: Settings) -> None:
    root = write_tree(tmp_path / "tree", {"a.cc": body("cache", 1), "b.cc": body("lease", 2)})
    with made(root, plain) as found:
        assert {label.kind for label in found.labels} == {LabelKind.DESCRIPTION, LabelKind.NAME}
        assert found.revision is None
        assert "The tree has no commits of git, so nothing is asked of its history." in found.notes


def test_a_tree_that_is_gone_is_an_error(tmp_path: Path, plain: Settings) -> None:
    with pytest.raises(TreeError), made(tmp_path / "gone", plain):
        pytest.fail("there is nothing to ask")
    assert not plain.data.exists()


def test_one_commit_is_too_little_history(tmp_path: Path, plain: Settings) -> None:
    root = write_tree(tmp_path / "tree", {"a.cc": body("cache", 1)})
    git(root, "init", "--quiet")
    commit(root, "Evict what nobody asks for any more", 0)
    with made(root, plain) as found:
        assert not commits_of(found.labels)
        assert "The history is too short to be split, so nothing is asked of it." in found.notes


def test_a_shallow_clone_is_asked_for_what_it_holds_and_says_so(
    repository: Path, tmp_path: Path, plain: Settings
) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth", "5", f"file://{repository}", str(shallow))
    with made(shallow, plain) as found:
        assert "The clone is shallow, so only the end of its history is asked." in found.notes
        assert 1 <= len(commits_of(found.labels)) <= 4


def test_a_repository_with_broken_objects_is_asked_for_its_comments(repository: Path, plain: Settings) -> None:
    for file in (repository / ".git" / "objects").glob("??/*"):
        file.chmod(0o644)
        file.write_bytes(b"broken")
    with made(repository, plain) as found:
        assert not commits_of(found.labels)
        assert any(label.kind is LabelKind.DESCRIPTION for label in found.labels)
        assert any("no commits" in note or "could not" in note for note in found.notes)


def test_a_file_that_git_has_lost_is_left_out_and_counted(repository: Path, plain: Settings) -> None:
    lost = git(repository, "rev-parse", f"HEAD:src/{TOPICS[0]}.cc")
    (repository / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    with made(repository, plain) as found:
        assert "Git could not give 1 of the files of the split; they are left out." in found.notes
        assert f"src/{TOPICS[1]}.cc" in found.index.table.known_files()
        assert f"src/{TOPICS[0]}.cc" not in found.index.table.known_files()


def test_every_arm_and_all_of_them_fused_are_measured(repository: Path, plain: Settings) -> None:
    with made(repository, plain) as found:
        figures = {
            (figure.kind, figure.arm): figure for figure in measure(judged(found.index, found.labels, (), never))
        }
    assert figures[LabelKind.NAME, FUSED].hit.mean == 1.0
    assert figures[LabelKind.NAME, "symbol"].mrr.mean == 1.0
    assert figures[LabelKind.DESCRIPTION, "lexical"].questions == len(TOPICS)
    assert figures[LabelKind.COMMIT, FUSED].hit.mean > 0.5, "each message names its file"
    for figure in figures.values():
        for value in (figure.hit, figure.mrr, figure.ndcg):
            assert 0 <= value.low <= value.mean <= value.high <= 1


_places = st.one_of(
    st.sampled_from(["a.cc", "b.cc"]),
    st.builds(
        lambda path, first, lines: Span(path, first, first + lines),
        st.sampled_from(["a.cc", "b.cc"]),
        st.integers(1, 9),
        st.integers(0, 4),
    ),
)


@given(st.lists(_places, min_size=1, max_size=5, unique_by=str), st.lists(_places, max_size=15))
def test_scores_lie_between_none_and_all(gold: list[Gold], ranked: list[Gold]) -> None:
    hit, reciprocal, ndcg = score(gold, ranked)
    assert hit in (0.0, 1.0)
    assert 0 <= reciprocal <= hit
    assert 0 <= ndcg <= 1.0 + 1e-9
    assert (ndcg > 0) == (hit > 0) == (reciprocal > 0)


@given(st.integers(1, 12), st.integers(1, 4))
def test_an_answer_counts_less_the_later_it_stands(rank: int, later: int) -> None:
    gold = ("gold.cc",)
    others: list[Gold] = [f"{number}.cc" for number in range(20)]
    near = score(gold, [*others[: rank - 1], "gold.cc", *others[rank:]])
    far = score(gold, [*others[: rank + later - 1], "gold.cc", *others[rank + later :]])
    assert far <= near
    assert near == (0, 0, 0) if rank > 10 else near[1] == 1 / rank


def test_lines_are_met_by_what_shares_some_of_them() -> None:
    gold = (Span("a.cc", 10, 20),)
    assert score(gold, [Span("b.cc", 10, 20), Span("a.cc", 20, 30)])[1] == 0.5
    assert score(gold, [Span("a.cc", 21, 30), Span("a.cc", 1, 9)])[0] == 0
    assert score(("a.cc", "b.cc"), [Span("b.cc", 1, 2), Span("a.cc", 1, 2)]) == (1, 1, 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 5))
def test_an_interval_holds_the_mean_and_is_the_same_each_time(values: list[float], seed: int) -> None:
    rows = [(value, value, value) for value in values]
    first = intervals(rows, seed)
    assert first == intervals(rows, seed)
    for value in first:
        assert min(values) - 1e-4 <= value.low <= value.high <= max(values) + 1e-4


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Index]:
    index_of(write_tree(tmp_path / "tree", COUNTER), tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        yield index


def test_own_questions_may_be_answered_by_files_lines_and_names(counter: Index) -> None:
    lines = [
        {"question": "who counts", "gold": ["src/counter.h", "src/main.cc:3", "src/main.cc:3-4"]},
        {"question": "who adds", "gold": ["app::Counter::Increment"]},
    ]
    labels, notes = own_labels("\n\n".join(map(json.dumps, lines)), counter)
    assert notes == []
    assert set(labels[0].gold) == {"src/counter.h", Span("src/main.cc", 3, 3), Span("src/main.cc", 3, 4)}
    assert {place.path for place in labels[1].gold if isinstance(place, Span)} == {"src/counter.h", "src/counter.cc"}
    figures = measure(judged(counter, labels, (), never))
    assert {figure.kind for figure in figures} == {LabelKind.OWN}


def test_an_answer_that_is_not_indexed_is_told_and_a_question_without_any_is_left_out(counter: Index) -> None:
    text = '{"question": "where", "gold": ["src/gone.cc", "README.md"]}\n{"question": "who", "gold": ["nobody"]}\n'
    labels, notes = own_labels(text, counter)
    assert [label.gold for label in labels] == [("README.md",)]
    assert notes == [
        "Line 1: the index holds no file or symbol 'src/gone.cc'.",
        "Line 2: the index holds no file or symbol 'nobody'.",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Line 2 is no JSON"),
        ("[]", "Line 2 has no question"),
        ('{"question": " ", "gold": ["a"]}', "Line 2 has no question"),
        ('{"question": "who"}', "Line 2 has no gold"),
        ('{"question": "who", "gold": "a.cc"}', "Line 2 has no gold"),
        ('{"question": "who", "gold": [1]}', "Line 2 has no gold"),
    ],
)
def test_a_line_of_another_form_is_named(counter: Index, line: str, said: str) -> None:
    with pytest.raises(EvaluationError) as raised:
        own_labels(f'{{"question": "who", "gold": ["README.md"]}}\n{line}\n', counter)
    assert raised.value.message.startswith(said)
    assert "gold" in raised.value.hint
