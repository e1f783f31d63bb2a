"""The labels of a pull request: its risk, and the services that it touches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from dpp.adapters.forge import Forge, Label
from dpp.operations.change.dossier import risk_of
from dpp.operations.change.findings import Dossier
from dpp.operations.change.forge.declared import LabelColours

OURS: Final = ("risk: ", "service: ")
"""How our labels begin; no other is touched."""
_AT_MOST: Final = 90
"""A forge takes a hundred for one pull request; some are others'."""


@dataclass(frozen=True)
class Moved:
    """What became of the labels of a pull request.

    Parameters
    ----------
    has
        Ours that it has now.
    taken
        Ours that it has no more.
    """

    has: tuple[str, ...]
    taken: tuple[str, ...]


def wanted(dossier: Dossier | None, colours: LabelColours, titles: Mapping[str, str]) -> tuple[Label, ...]:
    """Return the labels that a pull request is to have: none where there is no dossier.

    Parameters
    ----------
    dossier
        As it was judged here.
    colours
        As declared.
    titles
        Title of each service that this checkout knows: a change makes no label of a name of its own.
    """
    if dossier is None:
        return ()
    risk = risk_of(dossier)
    touched = {service.name for plan in dossier.plans for service in plan.services if service.direct}
    services = [
        Label(name=f"service: {name}", color=colours.service, description=f"Touches: {titles[name]}"[:100])
        for name in sorted(touched & titles.keys())
    ]
    about = "Of its plan, by changes/rules.yml of its base"
    return (Label(name=f"risk: {risk}", color=colours.risk[risk], description=about), *services[:_AT_MOST])


def publish(forge: Forge, number: int, labels: Iterable[Label]) -> Moved:
    """Have exactly these of our labels on a pull request, in the declared colours; others are left alone."""
    to_be = {label.name: label for label in labels}
    there = forge.labels() if to_be else {}
    for name, label in to_be.items():
        if name not in there:
            forge.make_label(label)
        elif there[name] != label:
            forge.mend_label(there[name], label)
    has = [name.lower() for name in forge.labels_of(number)]
    taken = tuple(name for name in has if name.startswith(OURS) and name not in to_be)
    for name in taken:
        forge.remove_label(number, name)
    if new := [name for name in to_be if name not in has]:
        forge.add_labels(number, new)
    return Moved(tuple(to_be), taken)
