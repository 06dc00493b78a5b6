"""What the suite's attacks left of each network: balanced accuracy against radius, and differences to the reference."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from mailnet.benchmark.differences import paired_difference
from mailnet.benchmark.markdown import interval, spread, table
from mailnet.benchmark.results import Results
from mailnet.data.config.base import radius_text

Cards: TypeAlias = Sequence[Mapping[str, Any]]  # of the seeds of a network


def summarise_attacks(results: Results) -> dict[str, Any]:
    """Return attack -> study -> task -> network -> what is left.

    Of a network: ``seeds``, ``suites`` (those that fitted it), ``n`` (studies), ``random``, ``draws`` (averaged),
    ``alignment`` (mean cosine of the averaged gradient with the true one, None where nothing is drawn), ``unreliable``
    and ``points``, one for the clean studies (``eps`` 0) and one a radius: ``mean`` and ``sd`` of balanced accuracy (of
    accuracy, where a multilabel task has no other) over seeds, and ``difference`` to the reference.
    """
    found: dict[str, Any] = {}
    for attack in results.suite.attacks:
        for study, networks in results.cells.items():
            cards = {
                network: [cell["attacks"][attack] for cell in cells]
                for network, cells in networks.items()
                if all(attack in cell.get("attacks", {}) for cell in cells)
            }
            tasks = dict.fromkeys(task for several in cards.values() for card in several for task in _curves(card))
            for task in tasks:
                rows = {network: several for network, several in cards.items() if task in _curves(several[0])}
                reference = rows.get(str(results.suite.reference))
                found.setdefault(attack, {}).setdefault(study, {})[task] = {
                    network: _network(several, task, None if several is reference else reference)
                    for network, several in rows.items()
                }
    return found


def attack_sections(attacks: Mapping[str, Any], reference: str | None) -> list[str]:
    """Return the tables as Markdown.

    Args:
        attacks: Of ``summarise_attacks``.
        reference: The network that the differences are to.
    """
    parts = []
    for attack, studies in attacks.items():
        parts.append(f"## Attack: {attack}")
        for study, tasks in studies.items():
            for task, networks in tasks.items():
                parts += [f"### {attack}, {study}: {task}", _rows(networks, reference)]
    return parts


def _network(
    cards: Sequence[Mapping[str, Any]], task: str, reference: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any]:
    curves = [_curves(card)[task] for card in cards]
    others = None if reference is None else [_curves(card)[task] for card in reference]
    alignments = [card["alignment"] for card in cards if card["alignment"] is not None]
    return {
        "seeds": len(cards),
        "n": cards[0]["n"],
        "suites": sorted({card["suite"] for card in cards}),
        "random": cards[0]["random"],
        "draws": max((each["draws"] for each in alignments), default=None),
        "alignment": statistics.mean(each["reached"] for each in alignments) if alignments else None,
        "unreliable": any(card["unreliable"] for card in cards),
        "points": [_point(curves, others, label) for label in curves[0]],
    }


def _point(
    curves: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]] | None, label: str
) -> dict[str, Any]:
    values = [curve[label]["value"] for curve in curves]
    return {
        "eps": label,
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "difference": None if others is None or label not in others[0] else _difference(curves, others, label),
    }


def _difference(curves: Cards, others: Cards, label: str) -> dict[str, Any] | None:
    values, reference = ([curve[label]["value"] for curve in several] for several in (curves, others))
    drawn, redrawn = ([curve[label]["redraws"] for curve in several] for several in (curves, others))
    if len({len(each) for each in (*drawn, *redrawn)}) > 1:
        return None
    found = paired_difference(values, reference, np.array(drawn, dtype=float), np.array(redrawn, dtype=float))
    return {"value": found.value, "low": found.low, "high": found.high, "excludes_zero": found.excludes_zero}


def _curves(card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Task -> radius -> ``value`` and ``redraws``, of the network as it is, attacked through all that is held."""
    curves: dict[str, dict[str, Any]] = {}
    for cell in card["cells"]:
        if cell["noise"] not in (None, "sample"):
            continue
        for task, found in cell["figures"].items():
            curve = curves.setdefault(task, {})
            for point, label in (("clean", "0"), ("robust", radius_text(cell["eps"], cell["norm"]))):
                metric = found[point]["balanced_accuracy"] or found[point]["accuracy"]
                if metric is not None:
                    curve.setdefault(label, {"value": metric["value"], "redraws": found["redraws"][point]})
    return curves


def _rows(networks: Mapping[str, Any], reference: str | None) -> str:
    labels = list(dict.fromkeys(point["eps"] for found in networks.values() for point in found["points"]))
    middle = labels[len(labels) // 2 + (len(labels) > 2)] if len(labels) > 1 else labels[0]
    points = {name: {point["eps"]: point for point in found["points"]} for name, found in networks.items()}
    heads = ["network", "suite", "studies", *("clean" if label == "0" else label for label in labels)]
    if reference is not None:
        heads += [f"clean minus {reference}", f"{middle} minus {reference}"]
    rows = []
    for name in sorted(networks, key=lambda name: -points[name].get(middle, {"mean": -1.0})["mean"]):
        row = [name, _suite(networks[name]), str(networks[name]["n"])]
        row += [spread(points[name].get(label)) for label in labels]
        if reference is not None:
            row += [interval(points[name].get(label, {}).get("difference")) for label in ("0", middle)]
        rows.append(row)
    return table(heads, rows)


def _suite(found: Mapping[str, Any]) -> str:
    """The suite; of a random network the draws averaged and what they reach; whether its figures may be quoted."""
    words = "/".join(found["suites"])
    if found["draws"] is not None:
        words += f", {found['draws']} draws, cosine {found['alignment']:.2f}"
    return f"{words} (unreliable)" if found["unreliable"] else words
