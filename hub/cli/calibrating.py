"""The command that learns how sure to be of answers about one tree, and writes its model card."""

import argparse
from pathlib import Path

from hub import wiring
from hub.calibrating.card import FEW, Card, certificate_sentences, missing_text
from hub.cli import DONE, NOTHING, calibrating_plot
from hub.cli.handing import done
from hub.cli.output import print_json, print_notes, settings_of
from hub.jobs.model import JobKind, Task
from hub.remote.reading import value_from


def calibrate(options: argparse.Namespace) -> int:
    """Exit code 1 where there was too little to learn from, so that the confidence stays the one that ships."""
    settings = settings_of(options)
    if options.plot is not None:
        calibrating_plot.check(options.plot)  # before minutes are spent on what could then not be drawn
    data = wiring.data_folder(settings)
    workspace = wiring.choose_workspace(data.workspaces(), options.workspace, Path.cwd())
    wanted = {"limit": options.limit, "alphas": options.alpha, "anew": options.anew}
    arguments = {name: value for name, value in wanted.items() if value}
    shape = done(settings, Task(JobKind.CALIBRATE, workspace.name, arguments))
    card = value_from(Card, shape)
    if options.json:
        print_json(shape)
    else:
        _print(card, tuple(options.alpha or ()))
        kept = "Questions are answered with it from now on. " if shape["stored"] else ""
        print(f"{kept}The card stands in {shape['folder']}.")
    if options.plot is not None:
        calibrating_plot.draw(options.plot, card)
    return DONE if shape["stored"] else NOTHING


def _print(card: Card, alphas: tuple[float, ...]) -> None:
    asked = sum(count.asked for count in card.counts)
    missing = sum(count.missing for count in card.counts)
    print(f"{card.workspace} was asked {asked} questions; of {missing} the evidence is missing\n")
    for count in card.counts:
        print(f"  {count.stratum:12} {count.variant:9} {count.asked:5} asked, {count.missing:4} missing")
    if card.figures:
        print("\nHow good the confidence is, of questions that nothing was learnt from")
        print(
            f"  {'':12} {'prompt':10} {'questions':>9} {'there':>6} {'AUROC':>6} {'ECE':>15} {'Brier':>6} {'AUGRC':>6}"
        )
    for figure in card.figures:
        size = f"{figure.budget >> 10}K {figure.tier.value}"
        few = " (few)" if figure.questions < FEW else ""
        auroc = "-" if figure.auroc is None else f"{figure.auroc:.3f}"
        error = f"{figure.ece_before:.3f} -> {figure.ece:.3f}"
        print(
            f"  {figure.kind:12} {size:10} {figure.questions:9} {figure.present:6.2f} {auroc:>6} {error:>15}"
            f" {figure.brier:6.3f} {figure.augrc:6.3f}{few}"
        )
    if card.missing_told is not None:
        print(f"  {missing_text(card.missing_told)}")
    if card.journeys:
        print("\nWhere questions would be answered")
    for journey in card.journeys:
        print(
            f"  {journey.policy.value:12} " + ", ".join(f"{share:.0%} {tier.value}" for tier, share in journey.shares)
        )
    print("\nWhat is certified")
    for sentence in certificate_sentences(card.certificates, alphas):
        print(f"  {sentence}")
    print()
    print_notes(card.notes)
