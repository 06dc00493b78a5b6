"""What a reader must know before believing the numbers, found in the results themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mailnet.data.config import StudyConfig
from mailnet.report.history import History
from mailnet.report.results import SMALL_GROUP, TaskResult
from mailnet.report.words import listing, number, plural

FEW_CASES = 10
HIGH_ECE = 0.1
LOSS_GAP = 1.5


def find_cautions(
    config: StudyConfig,
    split: str,
    data: Mapping[str, Any],
    tasks: list[TaskResult],
    history: History | None,
    external: bool = False,
) -> list[str]:
    """Return one sentence for each caution, the gravest first; ``external`` studies had no part in training."""
    found = [*_split(config, split, external)]
    for task in tasks:
        found += [
            *_flawless(task),
            *_baseline(task),
            *(_fusion(task) if config.regime == "paired" else ()),
            *_classes(task),
            *_calibration(task),
            *_subgroups(task),
        ]
    found += [*_training(history), *_left_out(data)]
    return found


def _split(config: StudyConfig, split: str, external: bool) -> Iterator[str]:
    if split != "test" and not external:
        yield (
            f"These are results on the split “{split}”, which training has used (to learn or to choose the epoch), "
            "so they flatter; results on unseen test studies will be lower."
        )
    if config.group is None:
        yield (
            "The study names no column of patients (“group”), so each row is taken as one patient; if patients "
            "have several rows, the intervals are too narrow, and splits drawn at random may hold one patient on two "
            "sides."
        )


def _flawless(task: TaskResult) -> Iterator[str]:
    accuracy = task.metrics.get("accuracy")
    if accuracy is not None and accuracy.value == 1 and task.n:
        # The rule of three: zero events in n trials leave 3/n as the upper 95% bound.
        yield (
            f"{task.name}: no mistake in {plural(task.n, 'study', 'studies')}; rarer ones may exist, up to "
            f"{number(min(1.0, 3 / task.n), percent=True)} of new studies may still be wrong."
        )


def _baseline(task: TaskResult) -> Iterator[str]:
    accuracy, majority = task.metrics.get("accuracy"), task.majority
    if accuracy is not None and majority is not None:
        name, share = majority
        low = accuracy.value if accuracy.low is None else accuracy.low
        if low <= share:
            yield (
                f"{task.name}: accuracy {number(accuracy.value, percent=True)} is not shown to beat always answering "
                f"“{name}”, which is right in {number(share, percent=True)} of the studies."
            )
    area = task.metrics.get("macro_auroc")
    if area is not None and (area.value if area.low is None else area.low) <= 0.5:
        yield f"{task.name}: the AUROC of {number(area.value)} is not shown to be better than guessing (0.5)."


def _fusion(task: TaskResult) -> Iterator[str]:
    whole = next((row for row in task.fusion if row.kind == "all"), None)
    alone = [row for row in task.fusion if row.kind == "only" and row.value is not None and row.n == (whole or row).n]
    if whole is None or whole.value is None or len(alone) < 2:
        return
    best = max(alone, key=lambda row: row.value.value if row.value else 0.0)
    if best.value is not None and best.value.value >= whole.value.value:
        yield (
            f"{task.name}: {best.label} does as well as all modalities together "
            f"({number(best.value.value, percent=task.headline.percent)} against "
            f"{number(whole.value.value, percent=task.headline.percent)}); fusion is not shown to help."
        )
    better = [
        row for row in task.fusion
        if row.kind == "without" and row.n == whole.n and row.value is not None and row.value.value > whole.value.value
    ]  # fmt: skip
    if better:
        yield f"{task.name}: results are better {listing([row.label for row in better])} than with all modalities."


def _classes(task: TaskResult) -> Iterator[str]:
    absent = [c.name for c in task.per_class if c.n == 0]
    if absent:
        verb = "has" if len(absent) == 1 else "have"
        yield (
            f"{task.name}: {_quoted(absent)} {verb} no tested study, so nothing is known about "
            f"{'it' if len(absent) == 1 else 'them'} and class means leave {'it' if len(absent) == 1 else 'them'} out."
        )
    rare = [f"“{c.name}” ({c.n})" for c in task.per_class if 0 < c.n < FEW_CASES]
    if rare:
        yield f"{task.name}: fewer than {FEW_CASES} tested studies of {listing(rare)}; their numbers are rough."


def _calibration(task: TaskResult) -> Iterator[str]:
    ece = task.metrics.get("ece")
    if ece is not None and ece.value > HIGH_ECE:
        yield (
            f"{task.name}: the calibration error is {number(ece.value)}; do not read the probabilities as chances "
            "without calibrating first."
        )


def _subgroups(task: TaskResult) -> Iterator[str]:
    small = [f"{column} {row.label} ({row.n})" for column, rows in task.subgroups.items() for row in rows if row.small]
    if small:
        yield f"{task.name}: fewer than {SMALL_GROUP} studies in the subgroups {listing(small)}; draw no conclusion."
    whole = task.metrics.get(task.headline.key)
    worse = [
        f"{column} {row.label}"
        for column, rows in task.subgroups.items()
        for row in rows
        if not row.small and whole is not None and whole.low is not None
        and row.value is not None and row.value.high is not None and row.value.high < whole.low
    ]  # fmt: skip
    if worse:
        yield f"{task.name}: {task.headline.label.lower()} is clearly lower for {listing(worse)} than over all studies."


def _training(history: History | None) -> Iterator[str]:
    if history is None or len(history.epochs) < 2:
        return
    if history.best == history.epochs[-1] and len(history.epochs) >= history.planned:
        yield "The best epoch was the last one, so training may have stopped too early: try more epochs."
    train, val = history.at_best(history.train_loss), history.at_best(history.val_loss)
    if train > 0 and val > LOSS_GAP * train:
        yield (
            f"At the best epoch the validation loss ({val:.3f}) is {val / train:.1f} times the training loss "
            f"({train:.3f}): the network has learnt the training studies by heart to some degree. Augmentation, "
            "modality dropout and label smoothing also move these two apart."
        )


def _left_out(data: Mapping[str, Any]) -> Iterator[str]:
    bad = data.get("bad") or []
    images = sum(one.get("modality") is not None for one in bad)
    if images:
        whose = "its study was" if images == 1 else "their studies were"
        yield f"{plural(images, 'image')} could not be used, and {whose} left out; see Data."
    if lacking := len(bad) - images:
        verbs = ("has", "was") if lacking == 1 else ("have", "were")
        yield f"{plural(lacking, 'row')} of the tables {verbs[0]} no modality at all and {verbs[1]} left out; see Data."


def _quoted(names: list[str]) -> str:
    return listing([f"“{name}”" for name in names])
