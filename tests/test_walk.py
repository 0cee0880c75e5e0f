"""The walk over the graph of chunks: what it promises of its masses, and along which edges it goes. Laws first."""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.index import DataFolder, Index
from indexer.model import ChunkId
from indexer.pipeline import Options, refresh
from indexer.symbol_table.database import Database
from indexer.symbol_table.ties import Edges, Masses, read
from indexer.symbol_table.walk import RESTART, Adjacency, adjacency, iterate, push
from tests.support.trees import COUNTER, index_of, write_tree

NODES = 12
PAIRS = st.lists(
    st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.floats(0, 2)),
    max_size=60,
    unique_by=lambda e: e[:2],
)
STARTS = st.lists(st.floats(0, 1), min_size=NODES, max_size=NODES)
LEAST_ROWS = st.sampled_from([0.5, 1.0, 3.0])


def graph(pairs: list[tuple[int, int, float]], least_row: float = 1.0) -> Adjacency:
    start, end, weight = (np.array(column) for column in zip(*pairs, strict=True)) if pairs else (np.zeros(0),) * 3
    return adjacency(NODES, [Edges(start.astype(np.int64), end.astype(np.int64), weight)], least_row)


def shares(weights: list[float]) -> Masses:
    found = np.array(weights)
    total = found.sum()
    return found / total if total else found


# Laws of the arithmetic


@given(PAIRS, LEAST_ROWS)
def test_the_shares_of_a_row_never_exceed_its_mass_and_no_edge_leads_to_where_it_starts(
    pairs: list[tuple[int, int, float]], least_row: float
) -> None:
    edges = graph(pairs, least_row)
    starts = np.repeat(np.arange(NODES), np.diff(edges.offsets))
    assert (np.bincount(starts, edges.shares, minlength=NODES) <= 1 + 1e-12).all()
    assert (starts != edges.targets).all()
    assert {(int(s), int(t)) for s, t in zip(starts, edges.targets, strict=True)} == {
        (s, t) for s, t, weight in pairs if weight > 0 and s != t
    }


@given(PAIRS, STARTS, st.sampled_from([0.15, 0.25, 0.6]), st.sampled_from([1e-2, 1e-3, 1e-5]))
def test_pushing_falls_short_of_power_iteration_by_no_more_than_it_says(
    pairs: list[tuple[int, int, float]], weights: list[float], restart: float, tolerance: float
) -> None:
    edges, start = graph(pairs), shares(weights)
    exact = iterate(edges, start, restart, 300)
    pushed = push(edges, start, restart, tolerance)
    assert (pushed <= exact + 1e-9).all()
    assert (exact - pushed).sum() <= tolerance * (len(edges.targets) + NODES) + 1e-9
    assert 0 <= pushed.sum() <= start.sum() + 1e-9


@settings(max_examples=30)
@given(PAIRS, STARTS)
def test_what_starts_at_several_nodes_is_the_sum_of_what_starts_at_each(
    pairs: list[tuple[int, int, float]], weights: list[float]
) -> None:
    edges, start = graph(pairs), shares(weights)
    apart = sum(
        (share * iterate(edges, one, RESTART, 30) for share, one in zip(start, np.eye(NODES), strict=True)),
        np.zeros(NODES),
    )
    assert np.allclose(iterate(edges, start, RESTART, 30), apart, atol=1e-9)


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_edges_means_nothing(pairs: list[tuple[int, int, float]], random: object) -> None:
    mixed = list(pairs)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    for one, other in zip(graph(pairs), graph(mixed), strict=True):
        assert np.array_equal(one, other)


# What is walked along


def function(name: str, *lines: str, head: str = "int {}() {{") -> str:
    """A function long enough to be a chunk of its own."""
    return "\n".join(
        [head.format(name), "  int total = 0;", *(f"  {line}" for line in lines), "  return total;", "}", "", ""]
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "tree"


def walked(root: Path, files: dict[str, str], *seeds: str, limit: int = 50) -> dict[str, float]:
    """The names of the chunks that are reached from the chunks of these names, with their masses, most first."""
    data = DataFolder(root.parent / "data")
    index_of(write_tree(root, dict(files)), data.path)
    with Index.for_reading(data, "w") as index:
        named = names_of(index)
        start = [(chunk, 1.0) for chunk, name in named.items() if name in seeds]
        assert start, f"none of {seeds} among {sorted(named.values())}"
        return {named[chunk]: mass for chunk, mass in index.walk.from_chunks(start, limit)}


def names_of(index: Index) -> dict[ChunkId, str]:
    """Each chunk's title without its signature: "a.cc | n::f"."""
    paths = sorted(index.table.known_files())
    chunks = [chunk for path in paths for chunk in index.table.chunks_of(path)]
    return {chunk.id: " | ".join(chunk.title.split(" | ")[:2]) for chunk in chunks}


def test_a_walk_goes_to_what_is_called_and_to_what_calls(tree: Path) -> None:
    files = {
        "a.cc": "int leaf();\n\n" + function("middle", "total += leaf();"),
        "b.cc": "int middle();\n\n" + function("top", "total += middle();"),
        "c.cc": function("leaf"),
        "d.cc": function("stranger"),
    }
    found = walked(tree, files, "a.cc | middle")
    assert {"b.cc | top", "c.cc | leaf"} <= found.keys()
    assert found["c.cc | leaf"] > found["b.cc | top"]
    assert "d.cc | stranger" not in found


def test_a_declaration_leads_to_its_definition_though_that_one_is_written_below_a_using_directive(tree: Path) -> None:
    files = {
        "tag.h": "namespace lib {\nnamespace ape {\nclass Tag {\n public:\n  int size(int base) const;\n};\n}\n}\n",
        "impl.cc": '#include "tag.h"\nusing namespace lib;\n\n'
        + function("ape::Tag::size", head="int {}(int base) const {{"),
        "other.cc": function("size", head="int {}(int base) {{"),
    }
    found = walked(tree, files, "tag.h | lib::ape::Tag")
    assert "impl.cc | ape::Tag::size" in found
    assert "other.cc | size" not in found


def edges(root: Path, files: dict[str, str], kind: str) -> set[tuple[str, str]]:
    """The names of the chunks between which there are edges of a kind; those of classes and files are numbers."""
    data = DataFolder(root.parent / "data")
    index_of(write_tree(root, dict(files)), data.path)
    with (
        Index.for_reading(data, "w") as index,
        closing(Database.open_readonly(data.workspace_folder("w") / "index.db")) as database,
    ):
        parts = read(database)
        named = names_of(index)
        names = [named[chunk] for chunk in parts.chunks] + [str(n) for n in range(len(parts.chunks), parts.nodes)]
        found = parts.edges[kind]
        return {(names[start], names[end]) for start, end in zip(found.start, found.end, strict=True)}


def test_an_overriding_method_leads_to_those_that_it_overrides_through_all_generations(tree: Path) -> None:
    files = {
        "shape.h": "struct Shape {\n  virtual int area();\n};\n",
        "box.h": '#include "shape.h"\nstruct Box : Shape {\n  int corners();\n};\n',
        "square.h": '#include "box.h"\nstruct Square : Box {\n  int area() override;\n};\n',
        "circle.h": '#include "shape.h"\nstruct Circle {\n  int area();\n};\n',
    }
    for name in ("shape", "square", "circle"):
        files[f"{name}.cc"] = f'#include "{name}.h"\n' + function(f"{name.title()}::area")
    files["box.cc"] = '#include "box.h"\n' + function("Box::corners")
    assert edges(tree, files, "override") == {("square.cc | Square::area", "shape.cc | Shape::area")}


def test_files_whose_names_differ_in_their_ending_are_a_pair_unless_there_are_many(tree: Path) -> None:
    files = {"include/a.h": function("f"), "src/a.cc": function("g"), "src/b.cc": function("h")}
    files |= {f"part{number}/main.cc": function(f"f{number}") for number in range(6)}
    found = edges(tree, files, "pair")
    assert len(found) == 1
    assert len(edges(tree, files, "file")) == 9


def test_what_everything_uses_tells_less_than_what_few_use(tree: Path) -> None:
    body = ("total += check();", "total += rare();")
    files = {"all.h": function("check", head="inline int {}() {{") + function("rare", head="inline int {}() {{")}
    files["user.cc"] = '#include "all.h"\n' + function("user", *body)
    for number in range(40):
        files[f"u{number}.cc"] = '#include "all.h"\n' + function(f"user{number}", body[0])
    found = walked(tree, files, "user.cc | user")
    assert found["all.h | rare"] > 2 * found["all.h | check"]


def test_a_name_that_may_mean_one_of_a_few_leads_to_each_and_one_that_may_mean_many_to_none(tree: Path) -> None:
    caller = function(
        "caller", "total += thing->few(1);", "total += thing->many(1);", head="template <class T> int {}(T* thing) {{"
    )
    files = {"caller.cc": caller}
    for number in range(2):
        files[f"few{number}.cc"] = f"struct F{number} {{\n" + function("few", head="  int {}(int) {{") + "};\n"
    for number in range(9):
        files[f"many{number}.cc"] = f"struct M{number} {{\n" + function("many", head="  int {}(int) {{") + "};\n"
    found = walked(tree, files, "caller.cc | caller")
    assert {"few0.cc | F0", "few1.cc | F1"} <= found.keys()
    assert not [name for name in found if "many" in name]


# What may be asked


def test_nothing_leads_nowhere_and_what_is_no_chunk_counts_for_nothing(tmp_path: Path) -> None:
    index_of(write_tree(tmp_path / "tree", {"a.cc": function("alone"), "b.cc": function("other")}), tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        ((alone, _),) = [(chunk, name) for chunk, name in names_of(index).items() if name == "a.cc | alone"]
        nobody = ChunkId("0" * 32)
        for seeds in ([], [(nobody, 1.0)], [(alone, 0.0)], [(alone, -1.0)], [(alone, float("nan"))]):
            assert index.walk.from_chunks(seeds, 10) == []
        assert index.walk.from_chunks([(alone, 1.0)], 0) == []
        once = index.walk.from_chunks([(alone, 1.0)], 10)
        assert [chunk for chunk, _ in once] == [alone]
        assert index.walk.from_chunks([(alone, 7.0), (nobody, 3.0)], 10) == once


def test_masses_are_above_zero_and_add_up_to_one_at_most_though_a_seed_has_more_edges_than_it_is_worth(
    tmp_path: Path,
) -> None:
    files = {"hub.cc": function("hub"), "a.cc": function("a"), "b.cc": function("b", "total += a();")}
    files |= {f"u{number}.cc": "int hub();\n\n" + function(f"user{number}", "total += hub();") for number in range(30)}
    index_of(write_tree(tmp_path / "tree", dict(files)), tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        scores = {"a.cc | a": 1.0, "b.cc | b": 0.5, "hub.cc | hub": 1e-3}
        seeds = [(chunk, scores[name]) for chunk, name in names_of(index).items() if name in scores]
        found = index.walk.from_chunks(seeds, 1000)
    assert {chunk for chunk, _ in found} == {chunk for chunk, score in seeds if score > 0.1}
    assert all(mass > 0 for _, mass in found)
    assert sum(mass for _, mass in found) <= 1
    assert found == sorted(found, key=lambda item: (-item[1], item[0]))


def test_an_empty_tree_has_no_walk(tmp_path: Path) -> None:
    index_of(write_tree(tmp_path / "tree", {"empty.cc": ""}), tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        assert index.walk.from_chunks([(ChunkId("0" * 32), 1.0)], 10) == []
        assert index.walk.important(10) == []
        assert index.walk.everywhere() == []


def test_edges_that_were_kept_lead_where_edges_read_afresh_do(tmp_path: Path) -> None:
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data")
    data = DataFolder(tmp_path / "data")
    with data.owned(), Index.for_writing(data, "w", tmp_path / "tree") as index:
        seeds = [(chunk.id, 1.0) for chunk in index.table.chunks_of("src/main.cc")]
        kept = index.walk.from_chunks(seeds, 20)
        assert len(kept) > len(seeds)
        assert not index.walk.keep()
        index._database.run("DELETE FROM walks")
    with data.owned(), Index.for_writing(data, "w", tmp_path / "tree") as index:
        assert index.walk.from_chunks(seeds, 20) == kept
        assert index.walk.keep()
        index._database.run("UPDATE walks SET targets = zeroblob(length(targets))")
    with Index.for_reading(data, "w") as index:
        assert index.walk.from_chunks(seeds, 20) != kept  # the stored ones are what is read


def test_a_walk_sees_the_graph_that_others_stored_and_goes_on_along_it_while_links_wait(tmp_path: Path) -> None:
    root, data = write_tree(tmp_path / "tree", dict(COUNTER)), DataFolder(tmp_path / "data")
    index_of(root, data.path)
    with Index.for_reading(data, "w") as index:
        (seed, *_) = [(chunk.id, 1.0) for chunk in index.table.chunks_of("src/main.cc")]
        before = index.walk.from_chunks([seed], 20)
        assert before
        index_of(write_tree(root, {"src/new.cc": '#include "counter.h"\n' + function("fresh", "main();")}), data.path)
        new = {chunk.id for chunk in index.table.chunks_of("src/new.cc")}
        after = index.walk.from_chunks([seed], 20)
        assert new & {chunk for chunk, _ in after}
        with data.owned(), Index.for_writing(data, "w", root) as writer:
            writer.links.distrust(["src/new.cc"])
            assert writer.walk.from_chunks([seed], 20) == after
            assert not writer.walk.keep()
        assert index.walk.from_chunks([seed], 20) == after


def test_without_a_stored_graph_a_walk_waits_for_links(tmp_path: Path) -> None:
    root, data = write_tree(tmp_path / "tree", dict(COUNTER)), DataFolder(tmp_path / "data")
    index_of(root, data.path)
    with data.owned(), Index.for_writing(data, "w", root) as index:
        seed = (index.table.chunks_of("src/main.cc")[0].id, 1.0)
        index._database.run("DELETE FROM walks")
        assert index.walk.from_chunks([seed], 20)
        index.links.distrust(["src/main.cc"])
        assert index.walk.from_chunks([seed], 20) == []
        assert index.walk.important(5) == []
        assert index.walk.everywhere() == []


def test_an_older_graph_leads_only_to_chunks_that_are_there_and_to_as_many_as_it_can(tmp_path: Path) -> None:
    files = {"hub.cc": function("hub")}
    files |= {f"u{number}.cc": "int hub();\n\n" + function(f"user{number}", "total += hub();") for number in range(6)}
    root, data = write_tree(tmp_path / "tree", dict(files)), DataFolder(tmp_path / "data")
    index_of(root, data.path)
    with Index.for_reading(data, "w") as reader:
        seed = (reader.table.chunks_of("hub.cc")[0].id, 1.0)
        before = reader.walk.from_chunks([seed], 100)
        version = reader.state()
        for number in range(4):
            (root / f"u{number}.cc").unlink()
        write_tree(root, {"late.cc": function("late", "total += hub();")})
        with data.owned(), Index.for_writing(data, "w", root) as index:
            refresh(index, Options(workers=1, graph=False))
        there = {chunk.id for path in ("hub.cc", "u4.cc", "u5.cc") for chunk in reader.table.chunks_of(path)}
        assert reader.walk.from_chunks([seed], 100) == [found for found in before if found[0] in there]
        assert reader.walk.from_chunks([seed], 1) == [found for found in before if found[0] in there][:1]
        (late,) = (mass for place, mass in reader.walk.everywhere() if place.path == "late.cc")
        assert late == 0
        assert reader.walk.important(20)
        between = reader.state()
        with data.owned(), Index.for_writing(data, "w", root) as index:
            assert index.walk.keep()
        assert len({version, between, reader.state()}) == 3, (
            "another graph is another state, though the table is the same"
        )
        assert any(place.path == "late.cc" and mass > 0 for place, mass in reader.walk.everywhere())


def test_vectors_and_notes_leave_the_generation_as_it_is_and_files_do_not(tmp_path: Path) -> None:
    root, data = write_tree(tmp_path / "tree", dict(COUNTER)), DataFolder(tmp_path / "data")
    index_of(root, data.path)
    with data.owned(), Index.for_writing(data, "w", root) as index:
        first = index._database.generation()
        index.table.set_meta({"note": "x"})
        index.table.touch([("src/main.cc", 1, 1)])
        assert index._database.generation() == first
        index.table.remove(["src/main.cc"])
        assert index._database.generation() > first


def test_what_much_of_the_code_leads_to_is_important(tmp_path: Path) -> None:
    files = {"core.cc": function("core"), "quiet.cc": function("quiet")}
    files |= {f"u{number}.cc": "int core();\n\n" + function(f"user{number}", "total += core();") for number in range(6)}
    index_of(write_tree(tmp_path / "tree", dict(files)), tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        found = index.walk.important(20)
        names = [index.facts.symbols_by_id(symbol)[0].name for symbol, _ in found]
    assert names[0] == "core"
    assert names[-1] == "quiet"
    assert found == sorted(found, key=lambda item: (-item[1], item[0]))


def test_every_chunk_has_its_part_of_what_walks_leave_in_its_own_file(tmp_path: Path) -> None:
    shared = {f"t{number}.cc": function("set_up") for number in range(4)}  # one name, a function in each file
    files = shared | {"core.cc": function("core"), "user.cc": "int core();\n\n" + function("user", "total += core();")}
    index_of(write_tree(tmp_path / "tree", dict(files)), tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        found = index.walk.everywhere()
        chunks = [chunk.span for path in sorted(files) for chunk in index.table.chunks_of(path)]
        important = index.walk.important(20)
    assert [place for place, _ in found] == chunks
    masses = {path: sum(mass for place, mass in found if place.path == path) for path in files}
    assert max(masses, key=lambda path: masses[path]) == "core.cc"
    assert len({round(masses[path], 12) for path in shared}) == 1
    assert sum(masses.values()) == pytest.approx(sum(mass for _, mass in important))


@settings(max_examples=8, deadline=None)
@given(st.permutations(sorted(COUNTER)), st.integers(1, len(COUNTER) - 1))
def test_a_tree_that_came_bit_by_bit_has_the_walks_of_one_read_at_once(order: list[str], first: int) -> None:
    with TemporaryDirectory() as folder:
        found = []
        for name, steps in (("whole", [order]), ("steps", [order[:first], order[first:]])):
            root, data = Path(folder) / name / "tree", DataFolder(Path(folder) / name / "data")
            for paths in steps:
                index_of(write_tree(root, {path: COUNTER[path] for path in paths}), data.path)
            with Index.for_reading(data, "w") as index:
                seeds = [(chunk, 1.0) for chunk in sorted(names_of(index))]
                found.append((index.walk.from_chunks(seeds, 100), index.walk.important(100)))
    assert found[0] == found[1]
    assert found[0][0]
