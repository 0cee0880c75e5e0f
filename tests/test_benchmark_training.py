"""What benchmarks/train_embedding.py learns from and how: pairs out of a file, what is kept out, and its gradients."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import cpp_pairs
from cpp_pairs import View

SAMPLE = b"""
namespace db {
/// Frees all blocks.
/// @param now whether to wait
class Arena {
 public:
  /** Returns how many bytes were handed out so far. */
  size_t used() const;
  int plain();
  bool full() const;  ///< Whether the next block must be asked for.
};

// Copies the key into the block, and opens another
// block where it does not fit.
template <typename Key>
bool Arena::put(const Key& key) {
  // keys that are too long get a block of their own
  if (key.size() > limit_) {
    /* old_code(); */
    log("cannot place a key of this length in the arena");
    return grow(key);
  }
  return true;
}

int helper(int x) { return x; }
}
"""


def test_functions_are_found_with_their_scope_their_comment_and_the_comments_inside() -> None:
    found = {function.name: function for function in cpp_pairs.functions(SAMPLE)}
    assert list(found) == ["db::Arena::used", "db::Arena::full", "db::Arena::put", "db::helper"]
    assert found["db::Arena::used"].comment == "Returns how many bytes were handed out so far."
    assert found["db::Arena::full"].comment == "Whether the next block must be asked for."
    put = found["db::Arena::put"]
    assert put.comment == "Copies the key into the block, and opens another block where it does not fit."
    assert put.inner == ("keys that are too long get a block of their own",)
    assert "too long" not in put.code
    assert "return grow(key);" in put.code
    assert found["db::helper"].comment == ""


def test_what_is_asked_for_does_not_stand_in_the_code_that_answers(tmp_path: Path) -> None:
    tree = tmp_path / "trees" / "sample"
    tree.mkdir(parents=True)
    (tree / "arena.cc").write_bytes(SAMPLE)
    pairs = list(cpp_pairs.mine(tmp_path, {"sample": "1"}))
    assert {View.SENTENCE, View.INNER} <= {pair.view for pair in pairs}
    for pair in pairs:
        assert pair.question not in pair.code
    assert pairs == list(cpp_pairs.mine(tmp_path, {"sample": "1"}))


def test_copies_of_what_benchmarks_score_are_kept_out_by_folder_and_by_namespace(tmp_path: Path) -> None:
    tree = tmp_path / "trees" / "sample"
    folders = ["third_party/x", "src/fmt", "lib/catch2", "Utilities/cmcurl", "deps", "ext/yaml-cpp", "libuv"]
    for folder in folders:
        (tree / folder).mkdir(parents=True)
        (tree / folder / "arena.cc").write_bytes(SAMPLE)
    (tree / "renamed.cc").write_bytes(SAMPLE.replace(b"namespace db", b"namespace leveldb"))
    assert list(cpp_pairs.mine(tmp_path, {"sample": "1"})) == []


def test_the_gradients_are_those_of_the_loss() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    import train_embedding

    chance = np.random.default_rng(3)
    asked, answers = (sparse.csr_matrix(chance.random((6, 9)) * (chance.random((6, 9)) < 0.6)) for _ in range(2))
    table = chance.normal(size=(9, 4))
    excused = np.zeros((6, 6), dtype=bool)
    excused[0, 3] = excused[3, 0] = True

    def loss(at: np.ndarray) -> float:
        question, answer = (bags @ at / np.linalg.norm(bags @ at, axis=1, keepdims=True) for bags in (asked, answers))
        scores = train_embedding.SHARPNESS * question @ answer.T
        scores[excused] = -1e9
        own = np.diag(scores)
        forwards = np.log(np.exp(scores).sum(axis=1)) - own
        backwards = np.log(np.exp(scores).sum(axis=0)) - own
        share = train_embedding.BACKWARDS
        return float(((1 - share) * forwards + share * backwards).mean())

    (of_questions, of_answers), _ = train_embedding._gradients(asked, answers, table, excused)
    for place in [(0, 0), (4, 2), (8, 3)]:
        step = np.zeros_like(table)
        step[place] = 1e-5
        slope = (loss(table + step) - loss(table - step)) / 2e-5
        assert slope == pytest.approx((of_questions + of_answers)[place], rel=1e-3, abs=1e-6)
