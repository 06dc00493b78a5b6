"""Which explanations point at the lesion, and on which does the answer hang? The tables of docs/trust.md.

    python benchmarks/explanation_truth.py RUN --masks TABLE [--data-root DATA] [--methods NAME ...] [--out FILE]
    python benchmarks/explanation_truth.py RUN --phantom

TABLE has the columns ``file`` and ``mask`` (--columns for others), paths relative to it, also inside an archive:
``set.zip!labels.csv``. Masks are brought to the grid that the network sees by the geometry of their images. Of a study
that ``mailnet demo`` wrote, --phantom takes the masks of its table, each only for the images in which the finding
shows. Explained is the true class unless --predicted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mailnet.bundle import load
from mailnet.cli.output import print_table, say
from mailnet.data.config import PixelConfig
from mailnet.data.dataset import StudyDataset
from mailnet.data.locations import Locator, folder_of
from mailnet.data.study import StudyData
from mailnet.data.tables import read_table
from mailnet.evaluation.inputs import load_studies
from mailnet.explain import Explanation, explain, list_explainers
from mailnet.explain.quality import (
    BASELINES,
    Baseline,
    baseline,
    evaluate_methods,
    find_padding,
    insertion_deletion,
    load_mask,
    phantom_masks,
    pointing_game,
    randomisation_test,
    score_maps,
)
from mailnet.files import write_json
from mailnet.nn.batch import Batch
from mailnet.nn.noise import get_noise

Array = np.ndarray[Any, Any]
Method = Callable[[nn.Module, Batch, Tensor | None], Explanation]
MAPS = ("pointing", "iou", "energy", "average_precision", "border", "padding", "blank")
STUDIES = ("pointing", "insertion", "deletion", "gap")


def read_masks(options: argparse.Namespace, data: StudyData, rows: Array) -> dict[str, Array]:
    """Return modality -> (N, ...) bool, empty where a study lacks the image or the table has no mask of it."""
    location = options.masks or str(Path(data.config.root) / "manifest.csv")
    locator = Locator(data.config.root)
    location = locator.locate(location)
    table, folder = read_table(location), folder_of(location)
    images, column = options.columns
    sections = {name: s for name, s in data.config.modalities.items() if isinstance(s, PixelConfig)}
    found = {}
    for name, section in sections.items():
        given = table[[name if options.phantom else images, column]].dropna()
        masks = {locator.locate(str(f), folder): locator.locate(str(m), folder) for f, m in given.to_numpy()}
        empty = np.zeros(section.size, dtype=bool)
        paths = data.frame[f"path:{name}"].iloc[rows]
        found[name] = np.stack([load_mask(masks[p], section, p) if p in masks else empty for p in paths])
    if options.phantom:
        # All images of a phantom study have one size and so one mask; which of them show it hangs on the finding.
        shown = phantom_masks(next(iter(found.values())), data.labels["finding"][rows])
        return {name: shown[name] for name in found}
    return found


def batches(data: StudyData, rows: Array, size: int) -> Iterator[tuple[Array, Batch]]:
    """Yield positions in ``rows`` and their studies; the studies of a batch have the same modalities."""
    pattern = np.stack([data.present[name][rows] for name in data.modalities], 1)
    for kind in np.unique(pattern, axis=0):
        places = np.flatnonzero((pattern == kind).all(1))
        for start in range(0, len(places), size):
            yield places[start : start + size], StudyDataset(data).batch(rows[places[start : start + size]])


def method_of(name: str, task: str, draws: int) -> Method:
    """Return a function that explains, by a method or by a map that knows nothing of the network."""
    if name in BASELINES:
        kind: Baseline = name
        generator = torch.Generator().manual_seed(0)

        def guess(model: nn.Module, batch: Batch, target: Tensor | None) -> Explanation:
            chosen = torch.zeros(len(batch), dtype=torch.long) if target is None else target
            return baseline(batch, kind, task, chosen, generator)

        return guess
    return lambda model, batch, target: explain(model, batch, task, target, name, draws=draws)


def measure(
    method: Method,
    model: nn.Module,
    parts: list[tuple[Array, Batch]],
    targets: Array | None,
    masks: dict[str, Array],
    options: argparse.Namespace,
) -> tuple[dict[str, Array], dict[str, Array], float]:
    """Return figure -> (N * M,) of the images, one modality after the other, figure -> (N,) of the studies, seconds."""
    count = len(next(iter(masks.values())))
    maps = {name: np.zeros(several.shape, dtype=np.float32) for name, several in masks.items()}
    seen = {name: np.zeros(count, dtype=bool) for name in masks}
    padding = {name: np.zeros(several.shape, dtype=bool) for name, several in masks.items()}
    studies = {figure: np.full(count, np.nan) for figure in STUDIES}
    seconds = 0.0
    for places, batch in parts:
        begin = time.perf_counter()
        target = None if targets is None else torch.from_numpy(targets[places])
        found = method(model, batch, target)
        seconds += time.perf_counter() - begin
        for name in set(found.maps) & set(batch.inputs):
            maps[name][places] = found.maps[name].detach().cpu().numpy()
            seen[name][places] = True
            padding[name][places] = find_padding(batch.inputs[name].numpy())
        curves = insertion_deletion(model, batch, found, steps=options.steps, fill=options.fill, draws=options.draws)
        studies["insertion"][places] = curves.insertion_area.numpy()
        studies["deletion"][places] = curves.deletion_area.numpy()
        studies["gap"][places] = curves.gap.numpy()
    scored = [
        {
            figure: np.where(seen[name], values, np.nan)
            for figure, values in score_maps(maps[name], masks[name], padding=padding[name]).items()
        }
        for name in masks
    ]
    images = {figure: np.concatenate([one[figure] for one in scored]) for figure in MAPS}
    all_maps, all_masks = (np.concatenate([a[n].reshape(count, -1) for n in masks], axis=1) for a in (maps, masks))
    studies["pointing"] = pointing_game(all_maps, all_masks)
    return images, studies, seconds / count


def show(title: str, figures: tuple[str, ...], found: dict[str, Any], gain: str | None = None) -> None:
    """Print figures with their intervals, and of one of them the difference to the centre."""

    def cell(line: dict[str, Any] | None, sign: str = "") -> str:
        if line is None or line["value"] is None:
            return "-"
        low, high = line["interval"] or (float("nan"), float("nan"))
        return f"{line['value']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"

    rows = []
    for name, lines in found["methods"].items():
        more = [cell(lines[gain].get("difference"), "+")] if gain else []
        rows.append([name, *(cell(lines[figure]) for figure in figures), *more])
    columns = ["method", *figures, *([f"{gain}, over the centre"] if gain else [])]
    print_table(f"{title}: {found['maps']} of {found['patients']} patients", columns, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--masks", help="table of images and masks, relative to the data root")
    parser.add_argument("--columns", nargs=2, default=("file", "mask"), metavar=("FILE", "MASK"))
    parser.add_argument("--phantom", action="store_true", help="the run is of a phantom study")
    parser.add_argument("--data-root")
    parser.add_argument("--split", default="test")
    parser.add_argument("--task", help="default: the first")
    parser.add_argument("--predicted", action="store_true", help="explain what the network says, not what is true")
    parser.add_argument("--methods", nargs="*", default=list_explainers())
    parser.add_argument("--limit", type=int, help="only so many studies, drawn at random")
    parser.add_argument("--steps", type=int, default=10, help="of insertion and deletion")
    parser.add_argument("--fill", choices=("blur", "mean"), default="blur")
    parser.add_argument("--sanity", type=int, default=32, help="studies of the randomisation test, 0 for none")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--draws", type=int, default=5, help="of a random network")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    if bool(options.masks) == options.phantom:
        parser.error("give either --masks or --phantom")
    predictor = load(options.run, "cpu")
    data = load_studies(predictor, options.run, None, options.split, options.data_root, skip_bad=False, cache=None)
    task = options.task or next(iter(predictor.tasks))
    rows = data.rows(options.split)
    if options.limit and options.limit < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, options.limit, replace=False))
    targets = None if options.predicted else data.labels[task][rows]
    if targets is not None:
        rows, targets = rows[targets >= 0], targets[targets >= 0]
    masks = read_masks(options, data, rows)
    groups = data.frame["unit"].iloc[rows].to_numpy()
    parts = list(batches(data, rows, options.batch))
    if get_noise(predictor.model) is None:
        options.draws = 1
    images, studies, cost = {}, {}, {}
    for name in [*BASELINES, *options.methods]:
        method = method_of(name, task, options.draws)
        try:
            measured = measure(method, predictor.model, parts, targets, masks, options)
        except ValueError as error:  # the method cannot look into this network
            say(f"{name} is left out: {error}")
            continue
        images[name], studies[name], cost[name] = measured
        say(f"{name}: {1000 * cost[name]:.1f} ms a study")
    found: dict[str, Any] = {
        "run": options.run.name,
        "task": task,
        "split": options.split,
        "explained": "predicted" if options.predicted else "truth",
        "fill": options.fill,
        "steps": options.steps,
        "draws": options.draws,
        "milliseconds": {name: round(1000 * seconds, 2) for name, seconds in cost.items()},
        "images": evaluate_methods(images, np.tile(groups, len(masks))),
        "studies": evaluate_methods(studies, groups),
        "lesion_area": {name: float(m[m.any(tuple(range(1, m.ndim)))].mean()) for name, m in masks.items()},
        "randomisation": {},
    }
    show("images, against the lesion", MAPS[:4], found["images"], "pointing")
    show("images, faults (share of energy by share of area; blank maps)", MAPS[4:], found["images"])
    show("studies, all modalities together", STUDIES, found["studies"], "gap")
    if options.out:
        write_json(options.out, found)
    if options.sanity:
        few = max(parts, key=lambda part: len(part[0]))[1]
        few = Batch({n: x[: options.sanity] for n, x in few.inputs.items()},
                    {n: x[: options.sanity] for n, x in few.present.items()})  # fmt: skip
        for name in ["edges", *(name for name in options.methods if name in cost)]:
            method = method_of(name, task, options.draws)
            test = randomisation_test(predictor.model, few, method)
            found["randomisation"][name] = test.as_dict()
        stages = [line["stage"] for line in found["randomisation"]["edges"]["stages"]]
        lines = [
            [name, *(f"{s['rank_correlation']:.2f} / {s['ssim']:.2f}" for s in one["stages"]), str(one["passed"])]
            for name, one in found["randomisation"].items()
        ]
        print_table("randomisation: rank correlation / SSIM", ["method", *stages, "passed"], lines)
    if options.out:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
