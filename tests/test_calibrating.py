"""A tree that is calibrated: what is learnt and kept, what is told of it, and what happens where that is too little."""

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from errno import ENOSPC
from importlib.util import find_spec
from math import exp, log2
from pathlib import Path

import pytest

from hub.background import State
from hub.calibrating import running, unattended
from hub.calibrating.adapting import adapted, holding, one_of_each, recalibrated
from hub.calibrating.card import card_of, certificate_sentences, markdown
from hub.calibrating.examples import Example, Row
from hub.calibrating.journal import Journal
from hub.calibrating.questions import Asked, Stratum, Variant
from hub.calibrating.running import Calibrated, Options, calibrate
from hub.cli import FAILED, NOTHING, main
from hub.confidence import drift, recent
from hub.confidence.certifying import EVERYTHING
from hub.confidence.drift import LEAST_ASKED
from hub.confidence.heads import BUDGET, BUDGET_SCALE, MIDDLE_BUDGET, Head, Heads
from hub.confidence.recalibration import IDENTITY
from hub.confidence.stored import RECORD, STORED, Record, stored_heads, stored_record
from hub.config import Settings
from hub.errors import EvaluationError
from hub.model import Tier
from hub.standing import standing
from indexer.errors import Cancelled, DataFolderError
from indexer.index import DataFolder, Index, Workspace
from indexer.pipeline import ignore_progress, never
from tests.support.trees import index_of, write_tree

NOW = "2030-01-02T03:04:05+00:00"
HEADS = Heads(Head(0.0, (("said", 1.0),)), ((Tier.WIDE, Head(-0.5, (("said", 0.1),))),), "a test")
SIZES = ((Tier.RAG, 4_096), (Tier.RAG, 16_384), (Tier.WIDE, 65_536))
VERBS = "evict merge flush rotate drain seal probe trim".split()
NOUNS = "cache lease writer footer quota cursor bloom journal mirror shard digest arena".split()
SMALL = Options(most=72)


def drawn(chance: random.Random, number: int, too_high: float = 0.0, missing: float = 0.2) -> list[Example]:
    """Questions whose log-odds of being found are what is said less ``too_high``, and more in a wide prompt."""
    found = []
    for place in range(number):
        lost = chance.random() < missing
        odds, luck = chance.gauss(-2.5 if lost else 2.5, 1.0), chance.random()
        rows = []
        for tier, budget in SIZES:
            doublings = log2(budget / MIDDLE_BUDGET)
            told = (("said", odds + too_high), (BUDGET, doublings / BUDGET_SCALE))
            rows.append(Row(budget, told, not lost and luck < 1 / (1 + exp(-odds - doublings)), tier))
        stratum = Stratum.RELATION if place % 5 == 0 else Stratum.DESCRIPTION
        variant = Variant.NATURAL if place % 2 else Variant.STRIPPED
        found.append(Example(f"n::F{place}", stratum, variant, lost, place % 2 == 0, tuple(rows)))
    return found


# Learning from examples


def test_values_that_are_too_high_are_bent_down_by_what_may_be_learnt_from() -> None:
    chance = random.Random(1)
    bent = recalibrated(HEADS, drawn(chance, 600, too_high=1.5, missing=0.0))
    assert bent.calibration.labels == 600
    assert bent.value((("said", 1.5), (BUDGET, 0.0))) == pytest.approx(0.5, abs=0.12)
    assert bent.certificates == ()


def test_what_is_held_out_bends_nothing_and_what_is_learnt_from_certifies_nothing() -> None:
    examples = drawn(random.Random(2), 400)
    learnt = adapted(HEADS, examples)
    upside_down = [
        replace(example, rows=tuple(replace(row, present=not row.present) for row in example.rows))
        if example.held_out
        else example
        for example in examples
    ]
    turned = adapted(HEADS, upside_down)
    assert turned.calibration == learnt.calibration != IDENTITY
    whole = next(c for c in learnt.certificates if (c.group, c.budget, c.alpha) == (EVERYTHING, 16_384, 0.2))
    assert whole.holds
    assert whole.tested == sum(example.held_out for example in examples)
    assert not any(certificate.holds for certificate in turned.certificates)


def test_a_certificate_stands_on_one_question_about_each_thing() -> None:
    examples = drawn(random.Random(3), 50)
    twins = [*examples, *(replace(example, variant=Variant.STRIPPED) for example in examples)]
    assert sorted(example.about for example in one_of_each(twins)) == sorted(example.about for example in examples)
    assert one_of_each(reversed(twins)) != []
    assert {id(example) for example in one_of_each(examples)} == {id(example) for example in examples}


def test_certificates_hold_on_questions_that_nobody_has_seen() -> None:
    chance = random.Random(4)
    libraries = {name: drawn(chance, 450, too_high) for name, too_high in (("plain", 0.0), ("proud", 1.5))}
    found = holding(libraries, dict.fromkeys(libraries, HEADS), 0.10, splits=20)
    assert len(found.cells) == 2 * 20 * 3  # points, relations, and all of them
    assert found.certified > 40
    assert found.held >= found.held_certified >= 0.9


def test_where_values_mean_nothing_nothing_is_certified() -> None:
    chance = random.Random(5)
    noise = [
        replace(example, rows=tuple(replace(row, present=chance.random() < 0.6) for row in example.rows))
        for example in drawn(chance, 300)
    ]
    found = holding({"noise": noise}, {"noise": HEADS}, 0.10, splits=5)
    assert found.certified == 0
    assert (found.held, found.held_certified) == (1.0, 1.0)


# The card


def test_a_card_tells_what_was_asked_how_good_it_is_and_what_is_certified() -> None:
    examples = drawn(random.Random(6), 400, too_high=1.5)
    learnt = adapted(HEADS, examples)
    card = card_of("tree", "c0ffee", NOW, HEADS, learnt, examples, ["A note."])
    assert sum(count.asked for count in card.counts) == 400
    assert sum(count.missing for count in card.counts) == sum(example.missing for example in examples)
    whole = next(figure for figure in card.figures if (figure.kind, figure.budget) == ("all", 16_384))
    assert whole.questions == 200
    assert whole.auroc is not None
    assert whole.auroc > 0.8
    assert whole.ece < whole.ece_before
    assert card.missing_told is not None
    assert card.missing_told > 0.9  # what is missing is said to be so here
    wide = next(recall for recall in card.recall if recall.tier is Tier.WIDE)
    assert wide.share >= next(recall for recall in card.recall if recall.budget == 16_384).share
    assert all(sum(share for _, share in journey.shares) == pytest.approx(1, abs=0.001) for journey in card.journeys)
    text = markdown(card)
    assert all(told in text for told in ("# Confidence in tree", "AUROC", "at most 10%", "exhaustive", "- A note."))
    assert json.loads(json.dumps(asdict(card)))["workspace"] == "tree"


def test_the_oracle_goes_on_no_worse_than_those_that_promise_most_first_and_all_end_alike() -> None:
    curves = card_of("tree", "", NOW, HEADS, HEADS, drawn(random.Random(7), 300), []).curves
    assert curves.escalated[0] == curves.escalated_by_oracle[0] == curves.escalated_by_chance[0]
    ends = [points[-1].y for points in (curves.escalated, curves.escalated_by_oracle, curves.escalated_by_chance)]
    assert ends == pytest.approx([ends[0]] * 3, abs=1e-3)
    pairs = zip(curves.escalated, curves.escalated_by_oracle, strict=True)
    assert all(oracle.y >= sure.y - 1e-9 for sure, oracle in pairs)


@pytest.mark.parametrize("number", [0, 3])
def test_a_card_of_next_to_nothing_says_so(number: int) -> None:
    card = card_of("tree", "", NOW, HEADS, HEADS, drawn(random.Random(8), number), [])
    assert card.missing_told is None or number
    assert certificate_sentences(card.certificates) == ["Nothing could be tested, so nothing is certified."]
    assert any("say little" in note for note in card.notes)
    assert "# Confidence in tree" in markdown(card)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="pictures are an extra")
@pytest.mark.parametrize("number", [0, 200])
def test_a_card_is_drawn_into_a_file_or_a_folder(tmp_path: Path, number: int) -> None:
    from hub.cli import calibrating_plot

    examples = drawn(random.Random(9), number)
    card = card_of("tree", "", NOW, HEADS, adapted(HEADS, examples), examples, [])
    for target in (tmp_path, tmp_path / "own.svg"):
        calibrating_plot.check(target)
        assert calibrating_plot.draw(target, card).stat().st_size > 5_000


# The journal


def asked(number: int) -> Asked:
    return Asked(f"What does {number} do?", (), Stratum.DESCRIPTION, Variant.NATURAL, False, f"f{number}", False)


def test_what_was_found_is_read_back_whatever_happened_to_the_end_of_the_file(tmp_path: Path) -> None:
    examples = drawn(random.Random(10), 3)
    journal = Journal(tmp_path, {"commit": "a"})
    for number, example in enumerate(examples):
        journal.add(asked(number), example)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for cut in range(0, len(whole), 97):
        file.write_bytes(whole[:cut])
        again = Journal(tmp_path, {"commit": "a"})
        kept = again.read()
        assert list(kept.findings.values()) == examples[: len(kept.findings)]
        assert kept.notes is None
        again.add(asked(7), examples[0])
        assert len(Journal(tmp_path, {"commit": "a"}).read().findings) == len(kept.findings) + 1


def test_a_journal_holds_no_words_of_a_question(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {})
    journal.add(asked(1), drawn(random.Random(11), 1)[0])
    assert b"What does" not in next(tmp_path.iterdir()).read_bytes()


def test_findings_of_another_commit_are_neither_met_nor_kept(tmp_path: Path) -> None:
    Journal(tmp_path, {"commit": "a"}).add(asked(1), drawn(random.Random(12), 1)[0])
    other = Journal(tmp_path, {"commit": "b"})
    assert other.read().findings == {}
    other.forget_others()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_costs_the_journal_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file", {})
    journal.add(asked(1), drawn(random.Random(13), 1)[0])
    journal.end(["done"])
    assert "do not stop before the end" in journal.trouble


# A whole tree


@pytest.fixture(autouse=True, scope="module")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Git settings of whoever runs the tests do not count, and few questions are enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
            patch.delenv(name)
        patch.setattr(running, "LEAST_KNOWN", 4)
        patch.setattr(running, "BUDGETS", SIZES)
        yield


def settings_at(folder: Path) -> Settings:
    return Settings(data=folder / "data", backend="none", embeddings="none", index_workers=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_at(tmp_path)


def source(verb: str, noun: str) -> str:
    name = f"{verb.capitalize()}{noun.capitalize()}"
    return (
        f"// Lets the {noun} {verb} whatever it holds beyond the limit and tells how many bytes that was.\n"
        f"int {name}(int limit) {{\n  int bytes = limit - {len(name)};\n  return bytes;\n}}\n"
    )


def indexed(settings: Settings, files: dict[str, str | bytes]) -> Workspace:
    root = settings.data.parent / "tree"
    write_tree(root, files)
    index_of(root, settings.data)
    (workspace,) = DataFolder(settings.data).workspaces()
    return workspace


@pytest.fixture
def tree(settings: Settings) -> Workspace:
    return indexed(settings, {f"src/{noun}.cc": "\n".join(source(verb, noun) for verb in VERBS) for noun in NOUNS})


def run(settings: Settings, workspace: Workspace, options: Options = SMALL) -> Calibrated:
    return calibrate(settings, workspace, options, NOW, ignore_progress, never)


@pytest.fixture(scope="module")
def calibrated_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Calibrated]:
    """A data folder with a calibrated tree, and what came of it. Nobody writes to it."""
    settings = settings_at(tmp_path_factory.mktemp("calibrated"))
    files = {f"src/{noun}.cc": "\n".join(source(verb, noun) for verb in VERBS) for noun in NOUNS}
    return settings.data, run(settings, indexed(settings, dict(files)))


@pytest.fixture
def learnt(calibrated_once: tuple[Path, Calibrated], settings: Settings) -> Workspace:
    """The same in a folder of the test's own."""
    shutil.copytree(calibrated_once[0], settings.data)
    (workspace,) = DataFolder(settings.data).workspaces()
    return workspace


def heads_of(settings: Settings, workspace: Workspace) -> Heads | None:
    with Index.for_reading(DataFolder(settings.data), workspace.name) as index:
        return stored_heads(index)


def test_a_tree_is_asked_and_its_next_question_is_answered_with_what_was_learnt(
    settings: Settings, learnt: Workspace, calibrated_once: tuple[Path, Calibrated]
) -> None:
    done = calibrated_once[1]
    assert done.stored
    heads = heads_of(settings, learnt)
    assert heads is not None
    assert heads.calibration == done.card.calibration != IDENTITY
    assert heads.certificates == done.card.certificates != ()
    asked_in_all = sum(count.asked for count in done.card.counts)
    assert 50 < asked_in_all <= SMALL.most
    assert 0.15 < sum(count.missing for count in done.card.counts) / asked_in_all < 0.35
    assert json.loads((done.folder / "card.json").read_text())["commit"] == ""
    assert (done.folder / "card.md").read_text().startswith(f"# Confidence in {learnt.name}")


def test_a_second_run_asks_nothing_and_comes_to_the_same(
    settings: Settings,
    learnt: Workspace,
    calibrated_once: tuple[Path, Calibrated],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "question_set", None)  # which nobody may call
    assert run(settings, learnt).card == calibrated_once[1].card


def test_a_run_that_was_stopped_goes_on_and_comes_to_what_an_unbroken_one_does(
    settings: Settings, tree: Workspace, calibrated_once: tuple[Path, Calibrated]
) -> None:
    told: list[int] = []

    def progress(stage: str, done: int, _total: int) -> None:
        if stage == "ask":
            told.append(done)

    with pytest.raises(Cancelled):
        calibrate(settings, tree, SMALL, NOW, progress, lambda: len(told) > 30)
    assert heads_of(settings, tree) is None
    kept = len(told) - 1
    told.clear()
    resumed = calibrate(settings, tree, SMALL, NOW, progress, never)
    total = sum(count.asked for count in resumed.card.counts)
    assert max(told) == total - kept > 0
    assert resumed.card == calibrated_once[1].card


def test_whoever_writes_the_index_is_not_disturbed_while_the_tree_is_asked(
    settings: Settings, learnt: Workspace
) -> None:
    """The lock is held all through the questions, and let go only after the last of them."""
    writing = DataFolder(settings.data).owned()
    writing.__enter__()
    stages: list[str] = []

    def progress(stage: str, _done: int, _total: int) -> None:
        if stage == "store":
            writing.__exit__(None, None, None)
        stages.append(stage)

    assert calibrate(settings, learnt, replace(SMALL, most=60), NOW, progress, never).stored
    assert (stages.count("store"), "ask" in stages) == (1, True)


def test_an_index_that_cannot_be_written_is_told_before_anything_is_asked(
    settings: Settings, learnt: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)  # whoever runs this may be root
    monkeypatch.setattr(running, "question_set", None)
    with pytest.raises(DataFolderError, match="cannot be written") as raised:
        run(settings, learnt)
    assert "--data" in raised.value.hint


def test_a_disk_that_is_full_is_told_with_a_way_out(
    settings: Settings, tree: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(running, "question_set", full)
    with pytest.raises(EvaluationError, match="No space left") as raised:
        run(settings, tree)
    assert "run it again" in raised.value.hint


FEW: dict[str, dict[str, str | bytes]] = {
    "no comments": {"src/a.cc": "int Evict(int limit) { return limit; }\n"},
    "no functions": {"README.md": "# Notes\n\nNothing else.\n"},
    "three labels": {"src/a.cc": "\n".join(source(verb, "cache") for verb in VERBS[:3])},
}


@pytest.mark.parametrize("files", FEW.values(), ids=FEW)
def test_a_tree_that_teaches_too_little_keeps_the_confidence_that_ships(
    settings: Settings, files: dict[str, str | bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LEAST_KNOWN", 20)
    workspace = indexed(settings, files)
    done = run(settings, workspace)
    assert not done.stored
    assert any("Too little to learn from" in note for note in done.card.notes)
    assert heads_of(settings, workspace) is None
    assert not any(certificate.holds for certificate in done.card.certificates)


def test_the_command_prints_the_card_as_text_and_as_json(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = indexed(settings, FEW["three labels"])
    monkeypatch.setattr(running, "LEAST_KNOWN", 20)
    monkeypatch.setenv("CODEHUB_EMBEDDINGS", "none")
    arguments = ["calibrate", "--data", str(settings.data), "--workspace", workspace.name, "--limit", "40"]
    assert main([*arguments, "--alpha", "0.3"]) == NOTHING
    out = capsys.readouterr().out
    assert "the evidence is missing" in out
    assert "Too little to learn from" in out
    assert main([*arguments, "--json"]) == NOTHING
    told = json.loads(capsys.readouterr().out)
    assert (told["workspace"], told["stored"]) == (workspace.name, False)
    assert main([*arguments, "--plot", "picture.txt"]) == FAILED
    assert "no kind of picture" in capsys.readouterr().err


# Afterwards


def made_stale(settings: Settings, workspace: Workspace) -> Record:
    """As if the tree had been half as large when it was calibrated."""
    data = DataFolder(settings.data)
    with data.owned(), Index.for_adding(data, workspace.name) as index:
        record = stored_record(index)
        assert record is not None
        old = replace(record, taken=replace(record.taken, lines=record.taken.lines // 2))
        index.table.set_meta({RECORD: old.dumps()})
        return old


def test_what_was_never_calibrated_is_never_calibrated_unasked(settings: Settings, tree: Workspace) -> None:
    with Index.for_reading(DataFolder(settings.data), tree.name) as index:
        assert standing(DataFolder(settings.data), index) is None
    assert not unattended.start(settings)


def test_what_has_grown_is_calibrated_again_in_the_background_and_told_meanwhile(
    settings: Settings, learnt: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unattended, "Options", lambda: SMALL)
    data = DataFolder(settings.data)
    with Index.for_reading(data, learnt.name) as index:
        fresh = standing(data, index)
    assert fresh is not None
    assert fresh.stale == ()
    made_stale(settings, learnt)
    with Index.for_reading(data, learnt.name) as index:
        old = standing(data, index)
    assert old is not None
    assert "grown" in old.stale[0]
    states: list[State] = []
    unattended.finish(settings, states.append, lambda: "later")
    assert states[0].workspace == learnt.name
    assert states[-1].note == ""
    with Index.for_reading(data, learnt.name) as index:
        new = standing(data, index)
    assert new is not None
    assert (new.calibrated_at, new.stale) == ("later", ())


def test_one_process_at_a_time_calibrates_in_the_background(settings: Settings, learnt: Workspace) -> None:
    made_stale(settings, learnt)
    states: list[State] = []
    with DataFolder(settings.data).background("calibration") as mine:
        assert mine
        unattended.finish(settings, states.append, lambda: "later")
    assert states == []


def test_heads_of_another_version_or_damaged_are_left_aside(settings: Settings, learnt: Workspace) -> None:
    data = DataFolder(settings.data)
    for text in ("{", '{"version": 0}', "[]"):
        with data.owned(), Index.for_adding(data, learnt.name) as index:
            index.table.set_meta({STORED: text, RECORD: text})
        with Index.for_reading(data, learnt.name) as index:
            assert stored_heads(index) is None
            assert stored_record(index) is None


def test_status_and_doctor_tell_when_a_tree_has_moved_on_and_questions_are_others(
    settings: Settings, learnt: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEHUB_EMBEDDINGS", "none")
    monkeypatch.setenv("CODEHUB_BACKEND", "none")

    def told() -> str:
        main(["status", "--data", str(settings.data)])
        main(["doctor", "--data", str(settings.data)])
        return capsys.readouterr().out

    assert told().count(NOW) == 2
    record = made_stale(settings, learnt)
    folder = DataFolder(settings.data).workspace_folder(learnt.name)
    for _ in range(LEAST_ASKED):
        recent.note(folder, [(spread.name, 77.0) for spread in record.spreads], 0.5)
    monkeypatch.setattr(drift, "LEAST_ASKED", 20)
    text = told()
    assert text.count("The tree has grown by 100% since.") == 2
    assert text.count("Recent questions are unlike those that this was calibrated on") == 2
    assert "codehub calibrate" in text


def test_a_question_that_is_asked_leaves_its_numbers_and_none_of_its_words(
    settings: Settings, learnt: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEHUB_EMBEDDINGS", "none")
    question = "what lets the journal rotate beyond the zyxlimit"
    main(["ask", question, "--backend", "none", "--data", str(settings.data)])
    assert "journal" in capsys.readouterr().out
    folder = DataFolder(settings.data).workspace_folder(learnt.name)
    (asked_lately,) = recent.recent(folder)
    assert len(asked_lately.numbers) > 5
    assert not set(question.split()) & set((folder / "questions.jsonl").read_text(encoding="utf-8").split('"'))
    assert all(b"zyxlimit" not in file.read_bytes() for file in folder.rglob("*") if file.is_file())
