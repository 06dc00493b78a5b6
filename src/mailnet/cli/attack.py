"""What ``mailnet attack`` reads from its options and prints of the result card."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mailnet.cli.output import print_table, say
from mailnet.data.config.base import radius_text, read_length
from mailnet.errors import ConfigError


def read_levels(given: Sequence[str]) -> list[float | dict[str, float]] | None:
    """Return the levels that ``--eps`` options ask for; None where there is none.

    Plain values are levels of all that is held. Values with a name are of one modality, and only those that are named
    are held: the first value of each name is its radius at the first level, and so on; one alone is its radius at all
    levels.

    >>> read_levels(["2/255", "0.1"]) == [2 / 255, 0.1]
    True
    >>> read_levels(["ct=0.1", "mri=0.2", "ct=0.3"])
    [{'ct': 0.1, 'mri': 0.2}, {'ct': 0.3, 'mri': 0.2}]

    Raises:
        ConfigError: No number, values with and without a name, or numbers of values that do not fit together.
    """
    plain = [_radius(text) for text in given if "=" not in text]
    named: dict[str, list[float]] = {}
    for text in given:
        if "=" in text:
            name, _, value = text.rpartition("=")
            named.setdefault(name.strip(), []).append(_radius(value))
    if not named:
        return list(plain) or None
    if plain:
        raise ConfigError(
            "--eps has values with a modality's name and without",
            remedy="Name every modality that the attacker holds: --eps ct=4/255 --eps mri=2/255",
        )
    counts = {len(values) for values in named.values()} - {1}
    if len(counts) > 1:
        raise ConfigError(
            f"--eps gives {' and '.join(str(count) for count in sorted(counts))} levels",
            remedy="Give each modality one value, or one for every level",
        )
    number = max(counts, default=1)
    return [{name: values[min(k, len(values) - 1)] for name, values in named.items()} for k in range(number)]


def read_tables(given: Sequence[str]) -> dict[str, float]:
    """Return table -> radius from ``NAME=RADIUS``.

    Raises:
        ConfigError: Something else.
    """
    found = {}
    for text in given:
        name, sign, value = text.rpartition("=")
        if not sign:
            raise ConfigError(f"--table {text} has no radius", remedy="Write --table NAME=0.1, in standard deviations")
        found[name.strip()] = _radius(value)
    return found


def _radius(text: str) -> float:
    try:
        return read_length(text)
    except ValueError:
        raise ConfigError(f"'{text}' is no radius", remedy="Write a positive number or a fraction, as 4/255") from None


def print_attack(card: Mapping[str, Any], folder: Path) -> None:
    """Print a table a task, how many draws were averaged, audits, and what makes the figures unreliable."""
    for task in card["tasks"]:
        rows = [_row(cell, task, card) for cell in card["cells"] if task in cell["figures"]]
        title = f"{task} ({card['split']} studies, {card['threat']['norm']})"
        print_table(title, ["eps", "changed", "n", "clean", "robust accuracy", "robust balanced"], rows)
    if together := [cell for cell in card["cells"] if cell.get("at_once")]:
        rows = [_row({**cell, "tasks": [""], "figures": {"": cell["at_once"]}}, "", card)[:-1] for cell in together]
        title = f"all tasks at once ({card['split']} studies, {card['threat']['norm']})"
        print_table(title, ["eps", "changed", "n", "clean", "any answer right"], rows)
    for line in notes(card):
        say(line)
    say(f"Written: {folder / 'robustness.json'}")


def print_share(done: Mapping[str, Any]) -> None:
    """Say what a share has done, and what writes the card."""
    made = f"{done['made']} batch{'' if done['made'] == 1 else 'es'} attacked now"
    say(
        f"Share {done['share']}: {done['studies']} studies, {made}; "
        f"{done['there']} of all {done['batches']} batches are done"
    )
    if done["card"] is not None:
        say(f"The result card is written: {done['card']}")
    else:
        say(f"{'This' if done['ready'] else 'Once all are, this'} writes the result card: {done['next']}")


def finishing_command(given: Sequence[str]) -> str:
    """Return the command that writes the card of what shares attacked, as one types it.

    Args:
        given: The words of a share's command, after ``mailnet``.

    >>> finishing_command(["attack", "my run", "--share", "0/2", "--json", "--seed", "3"])
    "mailnet attack 'my run' --seed 3"
    """
    words = [word for word, before in zip(given, ["", *given], strict=False) if "--share" not in (word, before)]
    return shlex.join(["mailnet", *(word for word in words if word != "--json" and not word.startswith("--share="))])


def notes(card: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the figures must know, a line each."""
    lines = [
        f"The attacker also changes the numbers of {name} by up to {table['radius']:g} standard deviations."
        for name, table in card["threat"]["tables"].items()
    ]
    if card.get("precision") == "bf16":  # cards of before have no such key
        lines.append("The search was in bfloat16; what it found is judged in full precision.")
    found = card["alignment"]
    if found is not None:
        text = (
            f"The network draws random numbers. Gradients of two draws have a cosine of {found['cosine']:.3f}; the "
            f"mean of {found['draws']} reaches {found['reached']:.2f} with the true one (aim {found['aim']:g})."
        )
        if found["capped"]:
            wanted = "no number of draws" if found["wanted"] is None else f"{found['wanted']} draws"
            text += f" The aim takes {wanted}: with more than --max-draws the attack may find more."
        lines.append(text)
    for name, audit in (card["audit"] or {}).items():
        if audit["passed"] is None:
            lines.append(f"Audit of {name}: not possible, {audit['why']}")
            continue
        applied = [check for check in audit["checks"] if check["passed"] is not None]
        good = sum(check["passed"] for check in applied)
        lines.append(f"Audit of {name}: {good} of {len(applied)} checks passed, on {audit['studies']} studies")
        lines += [f"  failed: {check['name']}. {check['meaning']}" for check in applied if not check["passed"]]
        lines += [
            f"  note: {check['meaning']}" for check in applied if check["passed"] and check["figure"].get("saturated")
        ]
    lines += [f"UNRELIABLE: {reason}" for reason in card["reasons"]]
    return lines


def _row(cell: Mapping[str, Any], task: str, card: Mapping[str, Any]) -> list[str]:
    found = cell["figures"][task]
    whole = set(card["threat"]["levels"][card["threat"]["middle"]])
    words = []
    if len(whole) > 1 or set(cell["held"]) != whole:
        words.append("all modalities" if set(cell["held"]) == whole else f"{' and '.join(cell['held'])} alone")
    if len(cell["tasks"]) > 1 and cell["n"] == found["n"]:
        words.append("all tasks at once")
    if cell["noise"] in ("off", "known seed"):
        words.append({"off": "noise off", "known seed": "seed known"}[cell["noise"]])
    return [
        radius_text(_images(cell["eps"], card), cell["norm"], card["threat"]["tables"]),
        ", ".join(words) or cell["held"][0],
        str(found["n"]),
        _cell(found["clean"]["accuracy"], interval=False),
        _cell(found["robust"]["accuracy"]),
        _cell(found["robust"].get("balanced_accuracy")),
    ]


def _images(radii: Mapping[str, float], card: Mapping[str, Any]) -> Mapping[str, float]:
    """The radii of images; those of tables are the same at every level, and said once."""
    return {name: radius for name, radius in radii.items() if name not in card["threat"]["tables"]} or radii


def _cell(estimate: Mapping[str, Any] | None, interval: bool = True) -> str:
    if estimate is None or not math.isfinite(estimate["value"]):
        return "-"
    text = f"{100 * estimate['value']:.1f}%"
    if not interval or "low" not in estimate:
        return text
    return f"{text} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"
