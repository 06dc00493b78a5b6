"""The numbers of all tables, computed from the cells: means over seeds, differences to the reference, ranks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mailnet.benchmark.attack_tables import summarise_attacks
from mailnet.benchmark.differences import Difference, paired_difference
from mailnet.benchmark.ranks import LEVEL, critical_difference, friedman, pairwise, rank
from mailnet.benchmark.results import Results

METRICS = ("balanced_accuracy", "macro_f1", "macro_auroc", "ece")
OVERALL = "mean of tasks"


def summarise(results: Results) -> dict[str, Any]:
    """Return what ``tables.json`` holds.

    Args:
        results: The cells.

    Returns:
        ``suite``, ``metric``, ``notes``, ``machines`` (how cells were made), ``studies`` (study -> ``networks``, what
        a network is and costs, and ``tasks``, its metrics), ``differences`` (to the reference, see
        ``benchmark.differences``), ``record`` (network -> on how many studies it is ``better``, ``worse`` or
        ``undecided`` against the reference), ``attacks`` (of a suite that has some, see ``summarise_attacks``),
        ``ranks`` (None for fewer than two networks or studies) and ``groups`` (name -> ranks over the studies of a
        group).
    """
    suite = results.suite
    studies = [study for study in suite.studies if results.cells[study]]
    differences, unpaired = _differences(results, studies)
    ranks, left_out = _ranks(results, studies)
    empty = [f"{study} has no cell yet and is in no rank." for study in suite.studies if study not in studies]
    return {
        "suite": suite.name,
        "description": suite.description,
        "metric": suite.metric,
        "seeds": suite.seeds,
        "reference": suite.reference,
        "baseline": suite.baseline,
        "machines": _machines(results),
        "notes": [*results.notes, *unpaired, *empty, *left_out],
        "studies": {study: _study(results, study) for study in studies},
        "differences": differences,
        "record": _record(differences),
        **({"attacks": summarise_attacks(results)} if suite.attacks else {}),
        "ranks": ranks,
        "groups": {
            name: _ranks(results, [study for study in chosen if study in studies])[0]
            for name, chosen in suite.groups.items()
        },
    }


def _study(results: Results, study: str) -> dict[str, Any]:
    cells = results.cells[study]
    return {
        "networks": {network: _network(results, study, network) for network in cells},
        "tasks": {
            task: {
                network: {
                    "n": cells[network][0]["tasks"][task]["n"],
                    "groups": cells[network][0]["tasks"][task]["groups"],
                    **{metric: _spread(results.values(study, network, task, metric)) for metric in METRICS},
                    "only": _only(cells[network], task),
                }
                for network in cells
                if task in cells[network][0]["tasks"]
            }
            for task in results.tasks(study)
        },
    }


def _network(results: Results, study: str, network: str) -> dict[str, Any]:
    cells = results.cells[study][network]
    first = cells[0]
    costs = results.costs.get(study, {}).get("networks", {}).get(network, {})
    return {
        "seeds": len(cells),
        "epochs": first["epochs"],
        "wanted_epochs": first["wanted_epochs"],
        "trials": first["trials"],
        "tuned": first["tuned"],
        "seconds": statistics.mean(cell["seconds"] for cell in cells),
        "parameters": first["parameters"],
        "macs": first["macs"],
        "latency_ms": costs.get("latency_ms"),
        "ratio": costs.get("ratio"),
    }


def _only(cells: Sequence[dict[str, Any]], task: str) -> dict[str, float]:
    """Modality -> mean over seeds of the primary metric with it alone."""
    found = {name: [cell["only"].get(name, {}).get(task) for cell in cells] for name in cells[0]["only"]}
    return {name: statistics.mean(values) for name, values in found.items() if None not in values}


def _spread(values: Sequence[float]) -> dict[str, float | None] | None:
    if not values:
        return None
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


def _machines(results: Results) -> list[dict[str, Any]]:
    machines = [cell["machine"] for networks in results.cells.values() for cells in networks.values() for cell in cells]
    return [machine for number, machine in enumerate(machines) if machine not in machines[:number]]


def _differences(results: Results, studies: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    reference = results.suite.reference
    rows, notes = [], []
    for study in studies:
        cells = results.cells[study]
        if reference is not None and reference not in cells:
            notes.append(f"{study}: the reference {reference} has no cell, so nothing is compared with it.")
        for network in cells if reference in cells else ():
            shared = [
                task for task in results.tasks(study) if _is_paired(results, study, network, str(reference), task)
            ]
            own = [task for task in cells[network][0]["tasks"] if task not in shared]
            if network == reference or not shared:
                continue
            if own:
                notes.append(f"{study}, {network}: not compared on {', '.join(own)}, other test studies.")
            each = {task: [task] for task in shared} | ({OVERALL: shared} if len(shared) > 1 else {})
            for task, tasks in each.items():
                found = _difference(results, study, network, str(reference), tasks)
                rows.append(
                    {
                        "study": study,
                        "task": task,
                        "network": network,
                        "value": found.value,
                        "low": found.low,
                        "high": found.high,
                        "excludes_zero": found.excludes_zero,
                        "seeds": [len(cells[network]), len(cells[str(reference)])],
                    }
                )
    return rows, notes


def _record(differences: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Network -> number of studies by what the interval of its mean over tasks says."""
    overall: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in differences:  # the mean of several tasks comes after them
        overall[row["network"], row["study"]] = row
    record: dict[str, dict[str, int]] = {}
    for (network, _), row in overall.items():
        counts = record.setdefault(network, {"better": 0, "worse": 0, "undecided": 0})
        counts["undecided" if not row["excludes_zero"] else "better" if row["value"] > 0 else "worse"] += 1
    return record


def _is_paired(results: Results, study: str, network: str, reference: str, task: str) -> bool:
    metric = results.suite.metric
    if not all(results.values(study, name, task, metric) for name in (network, reference)):
        return False
    return len(results.drawn(study, network, task) | results.drawn(study, reference, task)) == 1


def _difference(results: Results, study: str, network: str, reference: str, tasks: Sequence[str]) -> Difference:
    metric = results.suite.metric
    values, redraws = [], []
    for name in (network, reference):
        values.append(np.mean([results.values(study, name, task, metric) for task in tasks], axis=0))
        drawn = [results.redraws(study, name, task, metric) for task in tasks]
        draws = min(each.shape[1] for each in drawn)  # none of a task whose test studies are one patient's
        redraws.append(np.mean([each[:, :draws] for each in drawn], axis=0))
    return paired_difference(values[0], values[1], redraws[0], redraws[1])


def _ranks(results: Results, studies: Sequence[str]) -> tuple[dict[str, Any] | None, list[str]]:
    scores = {
        network: [results.score(study, network) for study in studies]
        for network in results.suite.networks
        if any(network in results.cells[study] for study in studies)
    }
    whole = {name: values for name, values in scores.items() if None not in values}
    missing = [name for name in scores if name not in whole]
    left_out = [f"In no rank, without an answer to every task of every study: {', '.join(missing)}."] if missing else []
    if len(whole) < 2 or len(studies) < 2:
        return None, left_out
    # Of seeds that all have: a network of which more seeds are there has no part in a mean of theirs.
    shared = {study: results.seeds(study, whole) for study in studies}
    if empty := [study for study, seeds in shared.items() if not seeds]:
        return None, [*left_out, f"No ranks: the networks share no seed on {', '.join(empty)}."]
    table = np.array([[results.score(study, name, shared[study]) for name in whole] for study in studies], dtype=float)
    ranks = rank(table)
    order = np.argsort(ranks.mean(0), kind="stable")
    names = [list(whole)[place] for place in order]
    table, ranks = table[:, order], ranks[:, order]
    test = friedman(ranks)
    reference = results.suite.reference
    control = names.index(reference) if reference in names else None
    return {
        "studies": list(studies),
        "seeds": {study: sorted(seeds) for study, seeds in shared.items()},
        "networks": names,
        "scores": table.tolist(),
        "mean_ranks": ranks.mean(0).tolist(),
        "mean_scores": table.mean(0).tolist(),
        "friedman": {key: value if math.isfinite(value) else None for key, value in test.items()},
        "level": LEVEL,
        "critical_difference": critical_difference(len(names), len(studies)),
        "pairs": [
            {"networks": [names[a], names[b]], "p": p, "holm": corrected}
            for a, b, p, corrected in pairwise(table, control)
        ],
    }, left_out
