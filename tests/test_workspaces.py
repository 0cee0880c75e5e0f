"""The pool of services: who may open which, what is shared, and what is noticed of changes on disk."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import wiring, workspaces
from hub.auth.model import ALL_WORKSPACES, LOCAL, Grant, Principal, Scope
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.config import Settings
from hub.errors import Forbidden, WorkspaceError
from hub.workspaces import IDLE_S, LOOK_AGAIN_S, MOST_IDLE, Workspaces
from indexer.errors import SchemaError
from indexer.index import DataFolder, Index
from indexer.pipeline import Options, refresh
from tests.support.served import settings_for
from tests.support.trees import write_tree

NAMES = ("alpha", "beta", "gamma")
SCOPES = st.frozensets(st.sampled_from(Scope), max_size=3)
GRANTS = st.lists(st.builds(Grant, st.sampled_from((*NAMES, "other", ALL_WORKSPACES)), SCOPES), max_size=4)


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Place:
    """A data folder with a workspace for each name, whose only class is called like it."""

    folder: Path
    clock: Clock = field(default_factory=Clock)

    def index(self, name: str, class_name: str) -> None:
        root = write_tree(self.folder / "trees" / name, {"a.h": f"/// Says {class_name}.\nclass {class_name} {{}};\n"})
        data = DataFolder(self.folder / "data")
        with data.owned(), Index.for_writing(data, name, root) as index:
            refresh(index, Options(workers=1), ())

    def settings(self, **changes: object) -> Settings:
        return settings_for(self.folder / "data", **changes)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    for name in NAMES:
        made.index(name, name.capitalize())
    return made


@pytest.fixture
def pool(place: Place) -> Iterator[Workspaces]:
    made = Workspaces(place.settings(), place.clock)
    yield made
    made.close()


def reader(*names: str, scope: Scope = Scope.READ) -> Principal:
    return Principal("k", "Ada", tuple(Grant(name, frozenset({scope})) for name in names))


def symbols(pool: Workspaces, name: str, asked: str) -> int:
    with pool.opened(LOCAL, name) as service:
        return len(service.symbols(asked, 5))


# Who may


def test_what_is_opened_is_what_was_granted_and_an_unseen_workspace_is_like_a_missing_one(place: Place) -> None:
    pool = Workspaces(place.settings())

    @given(GRANTS)
    @settings(max_examples=60, deadline=None)
    def holds(grants: list[Grant]) -> None:
        principal = Principal("k", "Ada", tuple(grants))
        assert [seen.name for seen in pool.visible(principal)] == [name for name in NAMES if principal.sees(name)]
        for name in NAMES:
            for scope in (Scope.READ, Scope.INGEST):
                if principal.may(scope, name):
                    with pool.opened(principal, name, scope) as service:
                        assert service.search("says", 1).workspace == name
                elif principal.sees(name):
                    with pytest.raises(Forbidden), pool.opened(principal, name, scope):
                        pass
                else:
                    assert told(pool, principal, name) == told(pool, principal, "missing").replace("missing", name)

    holds()
    pool.close()


def told(pool: Workspaces, principal: Principal, name: str) -> str:
    with pytest.raises(WorkspaceError) as raised, pool.opened(principal, name):
        pass
    return f"{raised.value.message} {raised.value.hint}"


def test_without_a_name_it_is_the_only_one_that_is_seen_else_the_one_last_indexed(
    place: Place, pool: Workspaces
) -> None:
    assert pool.chosen(reader("beta"), None).name == "beta"
    place.index("alpha", "Alpha")
    assert pool.chosen(reader("alpha", "beta"), None).name == "alpha"
    assert pool.chosen(LOCAL, None).name == "alpha"


def test_without_a_name_a_workspace_that_may_be_read_comes_before_one_that_may_not(pool: Workspaces) -> None:
    principal = Principal("k", "Ada", (*reader("alpha").grants, *reader("gamma", scope=Scope.INGEST).grants))
    assert pool.chosen(principal, None).name == "alpha"


def test_whoever_sees_nothing_is_told_the_same_in_a_full_and_in_an_empty_folder(
    place: Place, pool: Workspaces, tmp_path: Path
) -> None:
    empty = Workspaces(settings_for(tmp_path / "empty"))
    messages = []
    for each in (pool, empty):
        with pytest.raises(WorkspaceError) as raised:
            each.chosen(Principal("k", "Ada", ()), None)
        messages.append((raised.value.message, raised.value.hint))
    empty.close()
    assert messages[0] == messages[1]


@pytest.mark.parametrize("name", ["", "../data", "alpha/../beta", "ALPHA", "a" * 300, "alpha\0", "*", "\ud800"])
def test_a_name_that_is_none_is_looked_up_and_never_made_a_path(pool: Workspaces, name: str) -> None:
    with pytest.raises(WorkspaceError), pool.opened(LOCAL, name):
        pass


# The pool


def test_a_service_is_used_again_and_never_by_two_at_once(pool: Workspaces) -> None:
    with pool.opened(LOCAL, "alpha") as first:
        with pool.opened(LOCAL, "alpha") as second:
            assert second is not first
        with pool.opened(LOCAL, "alpha") as third:
            assert third is second
    with pool.opened(LOCAL, "alpha") as fourth:
        assert fourth is first or fourth is second


def test_many_threads_at_once_each_have_their_own(pool: Workspaces) -> None:
    together = threading.Barrier(12)
    held: list[int] = []

    def ask() -> None:
        with pool.opened(LOCAL, "alpha") as service:
            held.append(id(service))
            together.wait(20)
            assert len(service.symbols("Alpha", 5)) == 1

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(held)) == 12
    assert pool.open_count() == MOST_IDLE


def test_what_is_idle_for_long_is_closed(place: Place, pool: Workspaces) -> None:
    symbols(pool, "alpha", "Alpha")
    place.clock.now += IDLE_S - 1
    symbols(pool, "beta", "Beta")
    pool.sweep()
    assert pool.open_count() == 2
    place.clock.now += 2
    pool.sweep()
    assert pool.open_count() == 1


def test_a_service_that_is_open_when_all_is_closed_is_closed_when_it_is_given_back(pool: Workspaces) -> None:
    with pool.opened(LOCAL, "alpha") as service:
        pool.close()
        assert service.symbols("Alpha", 5)
    assert pool.open_count() == 0


# What changes on disk


def test_what_was_indexed_meanwhile_is_found(place: Place, pool: Workspaces) -> None:
    assert symbols(pool, "alpha", "Later") == 0
    place.index("alpha", "Later")
    assert symbols(pool, "alpha", "Later") == 1


def test_a_workspace_that_was_made_anew_under_its_name_is_noticed(place: Place, pool: Workspaces) -> None:
    assert symbols(pool, "alpha", "Alpha") == 1
    data = DataFolder(place.folder / "data")
    with data.owned():
        data.forget("alpha")
    place.index("alpha", "Anew")
    assert symbols(pool, "alpha", "Alpha") == 0
    assert symbols(pool, "alpha", "Anew") == 1


def test_a_workspace_that_was_deleted_is_gone_at_once(place: Place, pool: Workspaces) -> None:
    symbols(pool, "alpha", "Alpha")
    data = DataFolder(place.folder / "data")
    with data.owned():
        data.forget("alpha")
    assert told(pool, LOCAL, "alpha") == told(pool, LOCAL, "missing").replace("missing", "alpha")
    pool.sweep()
    assert pool.open_count() == 0


def test_an_index_of_another_version_is_told_and_hurts_no_other(place: Place, pool: Workspaces) -> None:
    data = DataFolder(place.folder / "data")
    with data.owned(), Index.for_adding(data, "alpha") as index:
        index.table.set_meta({"format": "0"})
    with pytest.raises(SchemaError), pool.opened(LOCAL, "alpha"):
        pass
    assert symbols(pool, "beta", "Beta") == 1


def test_what_was_calibrated_meanwhile_is_used_by_the_next(place: Place, pool: Workspaces) -> None:
    with pool.opened(LOCAL, "alpha") as before:
        pass
    data = DataFolder(place.folder / "data")
    with data.owned(), Index.for_adding(data, "alpha") as index:
        index.table.set_meta({"confidence": "another"})
    with pool.opened(LOCAL, "alpha") as after:
        assert after is not before


def test_what_was_read_before_a_change_is_kept_for_those_that_come_after_it(place: Place, pool: Workspaces) -> None:
    def kept() -> object:
        with pool.reading(LOCAL, "alpha") as index:
            return index.shared("what takes long to read", 1, object)

    before = kept()
    place.index("alpha", "Later")
    assert kept() is before


def test_another_workspace_is_not_closed_for_it(place: Place, pool: Workspaces) -> None:
    with pool.opened(LOCAL, "beta") as before:
        pass
    place.index("alpha", "Later")
    with pool.opened(LOCAL, "beta") as after:
        assert after is before


# Models


class Counting(EvidenceOnlyBackend):
    """Counts how often it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_all_services_share_one_model_which_ends_with_the_last_of_them(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Counting] = []

    def make(_settings: Settings) -> Counting:
        made.append(Counting())
        return made[-1]

    monkeypatch.setattr(wiring, "backend", make)
    pool = Workspaces(place.settings())
    with ExitStack() as stack:
        for name in (*NAMES, *NAMES):
            service = stack.enter_context(pool.opened(LOCAL, name))
            assert service.ask("What does it say?").backend == EvidenceOnlyBackend().info().name
    place.clock.now += IDLE_S
    pool.sweep()
    assert [each.closed for each in made] == [0]
    pool.close()
    assert [each.closed for each in made] == [1]


def test_embedders_are_loaded_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(_settings: Settings) -> Iterator[object]:
        loaded.append("once")
        yield from ()

    monkeypatch.setattr(wiring, "embedders", load)
    models = workspaces._SharedModels(place.settings(), place.clock)
    for _ in range(3):
        assert list(models.of_one().embedders()) == []
    assert loaded == ["once"]


def test_a_model_that_comes_later_is_found_where_the_settings_leave_open_which(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[type[EvidenceOnlyBackend]] = [EvidenceOnlyBackend]
    monkeypatch.setattr(wiring, "backend", lambda _settings: there[-1]())
    models = workspaces._SharedModels(place.settings(backend="auto"), place.clock)
    first, before = models.backend(), models.generation()
    there.append(Counting)
    assert models.generation() == before
    assert models.backend() is first
    place.clock.now += LOOK_AGAIN_S
    assert models.generation() == before + 1
    assert isinstance(models.backend(), Counting)
    models.close()
