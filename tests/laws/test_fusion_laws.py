"""Laws of fusion and of fitting its weights: for any arms, scores and weights, not only for those that ship."""

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.labels import Label, LabelKind
from hub.model import SignalSource
from hub.retrieval import GLOBAL, Candidates, Weights, fuse, rank_files, understand
from hub.retrieval.fusion import ARMS, BLOCKS, CHANGES, CHUNK_FEATURES, FILE_FEATURES, TOLD, Block
from hub.tuning import Example, adapt, fit
from indexer.model import ChunkId, Span

CHUNKS = [ChunkId(letter) for letter in "abcdefgh"]
PATHS = ["src/cache.cc", "src/cache.h", "tests/cache_test.cc", "README.md", "src/log.cc"]
PLACES = st.lists(st.sampled_from(PATHS), min_size=8, max_size=8).map(
    lambda paths: {
        chunk: Span(path, 9 * n + 1, 9 * n + 9) for n, (chunk, path) in enumerate(zip(CHUNKS, paths, strict=True))
    }
)
# Powers of two, so that scaling changes no digit.
RAW = st.sampled_from([0.125, 0.25, 0.5, 1.0, 2.0, 4.0])
ARM = st.dictionaries(st.sampled_from(CHUNKS), RAW).map(
    lambda raw: sorted(raw.items(), key=lambda item: (-item[1], item[0]))
)
COMPARED: list[SignalSource] = [arm for arm in SignalSource if arm != SignalSource.SYMBOL]
ARMS_FOUND = st.dictionaries(st.sampled_from(COMPARED), ARM)
FILES = st.dictionaries(st.sampled_from(PATHS), RAW)
QUESTIONS = st.sampled_from(
    ["how does the cache evict", "Fix the log of the cache", "EvictOldest", "where is `Log` made"]
)
Arms = dict[SignalSource, list[tuple[ChunkId, float]]]


def blocks(names: tuple[str, ...]) -> st.SearchStrategy[tuple[tuple[str, float], ...]]:
    values = st.dictionaries(st.sampled_from(names), st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0, 4.0]))
    return values.map(lambda told: tuple(told.items()))


WEIGHTS = st.builds(
    Weights,
    prose=blocks(CHUNK_FEATURES),
    account=blocks(CHUNK_FEATURES),
    change=blocks(CHUNK_FEATURES),
    paste=blocks(CHUNK_FEATURES),
    name=blocks(CHUNK_FEATURES),
    files=blocks(FILE_FEATURES),
)


@st.composite
def found(draw: st.DrawFn) -> Candidates:
    arms: Arms = draw(ARMS_FOUND)
    return Candidates(understand(draw(QUESTIONS)), arms, draw(PLACES), files=draw(FILES))


def with_block(weights: Weights, name: str, block: Block) -> Weights:
    told = json.loads(weights.dumps())
    again = Weights.loads(json.dumps({**told, name: dict(block)}))
    assert again is not None
    return again


@given(found(), WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_arms_and_of_places_does_not_matter(
    candidates: Candidates, weights: Weights, chance: Random
) -> None:
    arms, places, files = list(candidates.arms.items()), list(candidates.places.items()), list(candidates.files.items())
    chance.shuffle(arms)
    chance.shuffle(places)
    chance.shuffle(files)
    shuffled = replace(candidates, arms=dict(arms), places=dict(places), files=dict(files))
    assert fuse(shuffled, weights) == fuse(candidates, weights)
    assert rank_files(shuffled, weights) == rank_files(candidates, weights)


@given(found(), WEIGHTS)
def test_contributions_sum_to_the_score(candidates: Candidates, weights: Weights) -> None:
    for one in fuse(candidates, weights):
        assert one.score == pytest.approx(sum(value for _, value in one.contributions))
        assert all(value for value in dict(one.contributions)), "each contribution has a name"


@given(found(), WEIGHTS, st.integers(0, 8))
def test_a_limit_only_cuts(candidates: Candidates, weights: Weights, limit: int) -> None:
    assert fuse(candidates, weights, limit) == fuse(candidates, weights)[:limit]


@given(found(), WEIGHTS, st.sampled_from(COMPARED), ARM)
def test_an_arm_of_weight_0_might_as_well_not_have_been_asked(
    candidates: Candidates, weights: Weights, source: SignalSource, other: list[tuple[ChunkId, float]]
) -> None:
    without = weights
    for name in BLOCKS:
        block = tuple((feature, weight) for feature, weight in getattr(weights, name) if feature != source.value)
        without = with_block(without, name, block)
    silent = {arm: told for arm, told in candidates.arms.items() if arm is not source}
    for arms in (silent, {**silent, source: other}):
        changed = replace(candidates, arms=arms)
        assert {one.chunk: one.score for one in fuse(changed, without)} == {
            one.chunk: one.score for one in fuse(replace(candidates, arms=silent), without)
        }
        assert rank_files(changed, without) == rank_files(replace(candidates, arms=silent), without)


@given(found(), WEIGHTS, st.sampled_from([0.25, 2.0, 64.0]))
def test_the_unit_of_an_arm_does_not_matter(candidates: Candidates, weights: Weights, factor: float) -> None:
    arms = {arm: [(chunk, raw * factor) for chunk, raw in told] for arm, told in candidates.arms.items()}
    files = {path: score * factor for path, score in candidates.files.items()}
    scaled = replace(candidates, arms=arms, files=files)
    assert fuse(scaled, weights) == fuse(candidates, weights)
    assert rank_files(scaled, weights) == rank_files(candidates, weights)


@given(ARMS_FOUND, PLACES, FILES, WEIGHTS, st.sets(st.sampled_from(CHUNKS), min_size=1))
def test_what_a_bare_name_means_comes_first_whatever_the_weights(
    arms: Arms, places: dict[ChunkId, Span], files: dict[str, float], weights: Weights, meant: set[ChunkId]
) -> None:
    named: Arms = {**arms, SignalSource.SYMBOL: [(chunk, 1.0) for chunk in sorted(meant)]}
    candidates = Candidates(understand("EvictOldest"), named, places, files=files)
    assert {one.chunk for one in fuse(candidates, weights)[: len(meant)]} == meant
    holding = {places[chunk].path for chunk in meant}
    assert {path for path, _ in rank_files(candidates, weights)[: len(holding)]} == holding


@given(WEIGHTS)
def test_weights_are_kept_as_they_are(weights: Weights) -> None:
    again = Weights.loads(weights.dumps())
    assert again is not None
    assert all(dict(getattr(again, name)) == dict(getattr(weights, name)) for name in BLOCKS)
    assert again.dumps() == weights.dumps()


@given(
    st.text()
    | st.sampled_from(["null", "[]", "7", '{"version": 1}', GLOBAL.dumps().replace('"version": ', '"version": 9')])
)
def test_what_is_no_weights_of_this_version_is_left_aside(text: str) -> None:
    assert Weights.loads(text) is None


# Fitting


@st.composite
def examples(draw: st.DrawFn) -> list[Example]:
    told: list[Example] = []
    for number in range(draw(st.integers(1, 6))):
        candidates = draw(found())
        if draw(st.booleans()):
            label = Label(LabelKind.COMMIT, f"{number}", (draw(st.sampled_from(PATHS)),))
        else:
            label = Label(LabelKind.DESCRIPTION, f"{number}", (candidates.places[draw(st.sampled_from(CHUNKS))],))
        told.append((label, candidates))
    return told


@settings(max_examples=20)
@given(examples(), st.randoms(use_true_random=False))
def test_the_same_examples_give_the_same_weights_in_whatever_order(told: list[Example], chance: Random) -> None:
    fitted = fit(told, GLOBAL)
    assert fit(told, GLOBAL) == fitted
    shuffled = list(told)
    chance.shuffle(shuffled)
    assert fit(shuffled, GLOBAL) == fitted


@given(WEIGHTS)
def test_without_examples_the_prior_comes_back(weights: Weights) -> None:
    assert fit([], weights) is weights
    assert adapt([], [], weights)[0] is weights


@settings(max_examples=20)
@given(examples())
def test_no_arm_counts_against_what_it_found(told: list[Example]) -> None:
    fitted = fit(told, GLOBAL)
    for block in BLOCKS:
        assert all(value >= 0 for name, value in getattr(fitted, block) if name in {*ARMS, CHANGES})


@settings(max_examples=20)
@given(examples())
def test_a_prior_of_no_width_does_not_move(told: list[Example]) -> None:
    fitted = fit(told, GLOBAL, spread=1e-6)
    for block in BLOCKS:
        before = dict(getattr(GLOBAL, block))
        assert all(value == pytest.approx(before.get(name, 0.0), abs=1e-3) for name, value in getattr(fitted, block))


def judged(number: int, right: SignalSource, wrong: SignalSource) -> Example:
    """A question whose answer only one of two arms finds, and not always first."""
    places = {chunk: Span(f"src/{chunk}{number}.cc", 1, 9) for chunk in CHUNKS}
    arms: Arms = {right: [(CHUNKS[0], 1.0), (CHUNKS[1], 0.5)], wrong: [(CHUNKS[2], 1.0), (CHUNKS[3], 0.5)]}
    label = Label(LabelKind.DESCRIPTION, f"question {number}", (places[CHUNKS[number % 2]],))
    return label, Candidates(understand("how does it work"), arms, places)


def test_an_arm_that_only_misleads_goes_to_0_and_what_that_finds_is_told() -> None:
    prior = replace(GLOBAL, prose=(("lexical", 1.0), ("static", 2.0), (TOLD, 3.0)))
    told = [judged(number, SignalSource.LEXICAL, SignalSource.STATIC) for number in range(40)]
    weights, gains = adapt(told[:30], told[30:], prior)
    assert dict(weights.prose)["static"] < 1.0 < dict(weights.prose)["lexical"]
    assert dict(fit(told, prior, spread=100.0).prose)["static"] == 0
    assert dict(weights.prose)[TOLD] == 3.0, "what no example shows stays as it was"
    (gain,) = (gain for gain in gains if gain.block == "prose")
    assert (gain.fitted_on, gain.held_out, gain.kept) == (30, 10, True)
    assert gain.before < gain.after
    assert weights.origin != prior.origin
    assert (weights.change, weights.files) == (prior.change, prior.files)


def test_weights_that_find_no_more_are_not_kept() -> None:
    prior = replace(GLOBAL, prose=(("lexical", 3.0), ("static", 1.0)))
    told = [judged(number, SignalSource.LEXICAL, SignalSource.STATIC) for number in range(40)]
    weights, gains = adapt(told[:30], told[30:], prior)
    assert weights is prior
    assert not any(gain.kept for gain in gains)


def test_more_questions_move_the_weights_further_from_the_prior() -> None:
    prior = replace(GLOBAL, prose=(("lexical", 1.0), ("static", 1.0)))
    told = [judged(number, SignalSource.LEXICAL, SignalSource.STATIC) for number in range(20)]
    few, many = (dict(fit(told[:number], prior).prose)["lexical"] for number in (2, 20))
    assert 1.0 < few < many
