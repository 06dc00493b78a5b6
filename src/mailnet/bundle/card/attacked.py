"""Sections of a card on what attacks, natural damage and noise leave, and on what was not measured at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mailnet.bundle.card.facts import Facts
from mailnet.bundle.card.text import interval, listing, number, plain, table
from mailnet.data.config.base import radius_text

ROWS = 4  # radii of a certificate that are shown


def robustness(facts: Facts) -> list[str]:
    """Return the result card of ``mailnet attack``; empty where the model was not attacked."""
    card = facts.attacked
    if card is None:
        return []
    threat = card["threat"]
    lines = [
        "## Robustness to attacks",
        "",
        f"An attacker who knows the network changes inputs by at most the radius (norm {plain(threat['norm'])}, images "
        f"in [0, 1]); {card['n']:,} of {card['of']:,} test studies, suite {plain(card['suite'])}. Better attacks may "
        "find more, so every number is an upper bound."
        + (" The search was in bfloat16, the judgement in full precision." if card.get("precision") == "bf16" else ""),
        "",
    ]
    if card["unreliable"]:
        why = "; ".join(plain(reason, 400) for reason in card["reasons"])
        lines += [f"**Not to be quoted as robustness:** {why}.", ""]
    return [*lines, *table(["Task, radius", "Accuracy", "95% interval", "Balanced accuracy", "95% interval"],
                           [row for task in card["tasks"] for row in _left(task, card)])]  # fmt: skip


def _left(task: str, card: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield a row without attack, and one for each radius that all modalities share."""
    threat = card["threat"]
    every = [cell for cell in card["cells"] if task in cell["figures"]]
    least = min((len(cell["tasks"]) for cell in every), default=0)
    first = True
    for cell in every:
        if len(cell["tasks"]) != least or cell["noise"] not in (None, "sample") or cell["eps"] not in threat["levels"]:
            continue
        of = cell["figures"][task]
        if first:
            yield [f"{plain(task)}, no attack", *_both(of["clean"])]
            first = False
        radius = radius_text(cell["eps"], threat["norm"], threat["tables"])
        yield [f"{plain(task)}, {plain(radius)}", *_both(of["robust"])]


def _both(of: Mapping[str, Any]) -> list[str]:
    keys = ("accuracy", "balanced_accuracy")
    return [text for key in keys for text in (number(of.get(key)), interval(of.get(key)))]


def damage(facts: Facts) -> list[str]:
    """Return what natural damage costs; empty where it was not measured."""
    found = facts.damaged
    if found is None:
        return []
    rows = []
    for name, tasks in found["modalities"].items():
        for task, one in tasks.items():
            errors = {kind: of["error"] for kind, of in one["kinds"].items() if of["error"] is not None}
            worst = max(errors, key=lambda kind: errors[kind]["value"], default=None)
            mean = one["mean_corruption_error"]
            said = "-" if worst is None else f"{plain(worst.replace('_', ' '))} ({number(errors[worst])})"
            clean = number(one["clean"]["error"])
            rows.append(
                [f"{plain(task)}, {plain(name)} damaged", f"{one['n']:,}", clean, number(mean), interval(mean), said]
            )
    kinds, severities = len(found["settings"]["kinds"]), len(found["settings"]["severities"])
    return [
        "## Natural damage",
        "",
        f"Error (1 - balanced accuracy) on the test studies with one modality damaged, mean over {kinds} kinds of "
        f"damage in {severities} strengths. Which of these can occur depends on how images are made.",
        "",
        *table(["Task", "n", "Without damage", "Mean error", "95% interval", "Worst kind"], rows),
    ]


def certificate(facts: Facts) -> list[str]:
    """Return what randomized smoothing promises; empty where nothing was certified."""
    found = facts.certified
    if found is None:
        return []
    settings = found["settings"]
    noise = ", ".join(f"{plain(name)} {sigma:g}" for name, sigma in settings["sigma"].items())
    rows = []
    for task, one in found["tasks"].items():
        curve = one["curve"]
        for at in curve[:: max(len(curve) // ROWS, 1)][: ROWS + 1]:
            rows.append([f"{plain(task)}, radius {at['radius']:.2f}", number(at), interval(at), number(at["balanced"])])
    nothing = listing([plain(name) for name in found["promises_nothing_about"]])
    return [
        "## Certificates",
        "",
        f"By randomized smoothing with {settings['draws']:,} noisy copies (deviations: {noise}); {found['n']:,} of "
        f"{found['of']:,} test studies. Each promise is wrong with a chance of at most {settings['level']:g}, and is "
        "of the smoothed classifier, not of the network alone. A radius is in deviations of the noise, of all images "
        f"together (l2).{f' Nothing is promised where {nothing} changes.' if nothing else ''}",
        "",
        *table(["Task", "Certified accuracy", "95% interval", "Mean over classes"], rows),
    ]


def not_measured(facts: Facts) -> list[str]:
    """Return what nobody has looked at."""
    found = facts.evaluation or {}
    lines = ["other scanners, sites, populations and times than those of the study (unless reported elsewhere)"]
    if not found:
        lines.append("the test studies")
    if not found.get("subgroups"):
        lines.append("subgroups of patients, such as by age, sex or device")
    elif not found.get("gaps"):
        lines.append("gaps between subgroups")
    if not any(facts.fitted.get("sets", {}).values()):
        lines.append("sets of answers with a guarantee")
    if facts.attacked is None:
        lines.append("attacks (`mailnet attack`)")
    if facts.damaged is None and facts.pixels:
        lines.append("natural damage of images, such as noise and motion (`mailnet corrupt`)")
    if facts.certified is None and facts.pixels:
        lines.append("certified radii (`mailnet certify`)")
    if facts.explained is None:
        lines.append("what its answers rest on (`mailnet explain`)")
    return ["## Not measured", "", *(f"* {line}" for line in lines), ""]
