"""How well a trained run tells foreign studies, on images of other data sets, damaged ones and exchanged modalities.

    python benchmarks/foreign.py RUN --data-root DATA [--study benchmarks/studies/three.yaml ...] [--images 200]
        [--rate 0.05] [--cache FOLDER] [--json OUT]

What tells them is fitted anew on the run's training and validation studies, and asked of its test studies, in which one
modality is replaced. Images of other sets are made grey or coloured as the modality is, so that this alone tells none.
AUROC is of the score against the same modality of the test studies as they are; "called foreign" is the share of
studies in which any modality sounds its alarm, at the stated rate of false alarms of a study.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from mailnet.bundle import Foreign, Predictor, load
from mailnet.bundle.foreign_images import ForeignImages, Look
from mailnet.cli.output import print_table
from mailnet.data.config import PixelConfig, load_config
from mailnet.data.dataset import StudyDataset
from mailnet.data.images import load_image
from mailnet.data.manifest import load_manifest
from mailnet.data.preprocess import to_unit
from mailnet.data.study import StudyData
from mailnet.evaluation.foreign import fit_foreign
from mailnet.evaluation.inputs import load_studies
from mailnet.files import write_json
from mailnet.nn.batch import Batch
from mailnet.robustness.corruptions import CORRUPTIONS, corrupt

OWN = ("column", "range", "select", "frame", "mask")
STUDIES = Path(__file__).parent / "studies"


class Bench:
    """A run, what it tells foreign studies by, and its test studies as they are."""

    def __init__(self, predictor: Predictor, foreign: Foreign, test: StudyData, rows: np.ndarray) -> None:
        self.predictor, self.foreign = predictor, foreign
        self.batch = StudyDataset(test).batch(rows)
        self.plain = self.scores(self.batch)

    @property
    def images(self) -> list[str]:
        return [name for name, one in self.foreign.modalities.items() if isinstance(one, ForeignImages)]

    def scores(self, batch: Batch) -> dict[str, dict[str, np.ndarray]]:
        """Return modality -> kind of distance -> its logarithm, of the studies that have it."""
        features, found = self.predictor.features(batch, self.foreign.layers), {}
        for name in self.images:
            if name not in batch.inputs:
                continue
            rows, one = batch.present[name].numpy(), self.foreign.modalities[name]
            assert isinstance(one, ForeignImages)
            own = features[name][rows] if name in features else None
            look = Look.at(batch.inputs[name].numpy()[rows], own)
            found[name] = {kind: distance.log(look.values(kind)) for kind, distance in one.distances.items()}
        return found

    def called(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return modality -> (B,) bool, its alarm sounds."""
        inputs, present = ({name: x.numpy() for name, x in of.items()} for of in (batch.inputs, batch.present))
        found = self.foreign.examine(inputs, present, self.predictor.features(batch, self.foreign.layers))
        return {name: one.sounds for name, one in found.items()}

    def measure(self, kind: str, case: str, name: str, images: torch.Tensor, rows: torch.Tensor) -> dict[str, Any]:
        """Return what comes of test studies ``rows`` given these images as the modality."""
        batch = replaced(self.batch, rows, {name: images})
        scores, sounds = self.scores(batch)[name], self.called(batch)
        return {
            "kind": kind,
            "case": case,
            "modality": name,
            "studies": len(rows),
            "auroc": {one: auroc(values, self.plain[name][one]) for one, values in scores.items()},
            "modality_called": float(sounds[name].mean()),
            "called_foreign": float(np.any(list(sounds.values()), axis=0).mean()),
        }


def replaced(batch: Batch, rows: torch.Tensor, images: dict[str, torch.Tensor]) -> Batch:
    """Return these studies, with other images in place of theirs, which they have from now on."""
    inputs = {name: x[rows] for name, x in batch.inputs.items()}
    present = {name: here[rows] for name, here in batch.present.items()}
    for name, x in images.items():
        inputs[name], present[name] = x, torch.ones(len(rows), dtype=torch.bool)
    return Batch(inputs, present)


def auroc(foreign: np.ndarray, usual: np.ndarray) -> float:
    ranks = rankdata(np.r_[foreign, usual])[: len(foreign)]
    return float((ranks.sum() - len(foreign) * (len(foreign) + 1) / 2) / (len(foreign) * len(usual)))


def other_sets(bench: Bench, files: list[Path], root: Path, limit: int) -> Iterator[dict[str, Any]]:
    """Measure images of other data sets, each given as each modality."""
    sections = bench.predictor.bundle.preprocessing
    for file in files:
        config = load_config(file, data_root=root)
        if config.name == bench.predictor.bundle.study:
            continue
        frame = load_manifest(config).frame
        for other, theirs in config.modalities.items():
            if not isinstance(theirs, PixelConfig):
                continue
            paths = [path for path in frame.loc[frame["split"] == "test", f"path:{other}"] if path]
            chosen = np.random.default_rng(0).permutation(len(paths))[:limit]
            for name in bench.images:
                ours = sections[name]
                if ours.kind != theirs.kind:
                    continue
                kept = {key: getattr(theirs, key) for key in OWN if hasattr(theirs, key)} | {"convert": True}
                read = [to_unit(load_image(paths[place], ours.model_copy(update=kept))) for place in chosen]
                rows = bench.batch.present[name].nonzero()[:, 0][: len(read)]
                images = torch.from_numpy(np.stack(read[: len(rows)]))
                yield bench.measure("another set", f"{config.name}: {other}", name, images, rows)


def damaged(bench: Bench) -> Iterator[dict[str, Any]]:
    for name in bench.images:
        rows = bench.batch.present[name].nonzero()[:, 0]
        for severity in (3, 5):
            for kind in CORRUPTIONS:
                images = corrupt(bench.batch.inputs[name][rows], kind, severity, torch.Generator().manual_seed(0))
                yield bench.measure(f"damage {severity}", kind, name, images, rows)


def exchanged(bench: Bench) -> Iterator[dict[str, Any]]:
    """Measure modalities given as one another: both exchanged where a study has both."""
    inputs, present = bench.batch.inputs, bench.batch.present
    for place, first in enumerate(bench.images):
        for second in bench.images[place + 1 :]:
            if inputs[first].shape[2:] != inputs[second].shape[2:]:
                continue
            for a, b in ((first, second), (second, first)):
                both = (present[a] & present[b]).nonzero()[:, 0]
                rows = both if len(both) else present[a].nonzero()[:, 0]
                x = channels(inputs[a][rows], inputs[b].shape[1])
                given = {b: x, **({a: channels(inputs[b][rows], inputs[a].shape[1])} if len(both) else {})}
                batch = replaced(bench.batch, rows, given)
                if not len(both):
                    batch.present[a][:] = False
                    del batch.inputs[a]
                scores, sounds = bench.scores(batch)[b], bench.called(batch)
                yield {
                    "kind": "exchanged" if len(both) else "one given as the other",
                    "case": f"{a} as {b}",
                    "modality": b,
                    "studies": len(rows),
                    "auroc": {one: auroc(values, bench.plain[b][one]) for one, values in scores.items()},
                    "modality_called": float(sounds[b].mean()),
                    "called_foreign": float(np.any(list(sounds.values()), axis=0).mean()),
                }


def strangers(bench: Bench) -> Iterator[dict[str, Any]]:
    """Measure studies of several images, one of which is that of another test study drawn at random."""
    present = bench.batch.present
    for name in bench.images:
        beside = [present[other] for other in bench.images if other != name]
        rows = (
            (present[name] & torch.stack(beside).any(0)).nonzero()[:, 0]
            if beside
            else torch.zeros(0, dtype=torch.int64)
        )
        if len(rows) > 1:
            drawn = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
            # In a ring of random order, so that none has its own.
            rows, given = drawn, bench.batch.inputs[name][drawn.roll(1)]
            yield bench.measure("of another patient", f"{name} of another patient", name, given, rows)


def channels(x: torch.Tensor, count: int) -> torch.Tensor:
    return x if x.shape[1] == count else x.mean(1, keepdim=True).expand(-1, count, *x.shape[2:]).contiguous()


def cost(bench: Bench, repeats: int = 7) -> dict[str, float]:
    """Return the processor's seconds of a pass over the test studies and of the same pass with the warning."""
    predictor, batch = bench.predictor, replaced(bench.batch, torch.arange(min(64, len(bench.batch))), {})

    def seconds(warned: bool) -> float:
        predictor.foreign = bench.foreign if warned else None
        start = time.process_time()
        predictor.predict_examined(batch)
        return time.process_time() - start

    seconds(True)
    pairs = np.array([(seconds(False), seconds(True)) for _ in range(repeats)])
    plain, warned = np.median(pairs, axis=0) / len(batch)
    return {"pass_seconds": plain, "with_warning_seconds": warned, "ratio": float(np.median(pairs[:, 1] / pairs[:, 0]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--study", type=Path, nargs="*", default=sorted(STUDIES.glob("*.yaml")))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    predictor = load(given.run, "cpu", raw=True)
    train, val, test = (
        load_studies(predictor, given.run, None, split, given.data_root, skip_bad=False, cache=given.cache)
        for split in ("train", "val", "test")
    )
    rows = np.sort(np.random.default_rng(0).permutation(len(test))[: max(given.images, 200)])
    bench = Bench(predictor, fit_foreign(predictor, train, val, rate=given.rate), test, rows)
    usual = bench.called(bench.batch)
    others = other_sets(bench, given.study, given.data_root, given.images)
    measured = [*others, *exchanged(bench), *strangers(bench), *damaged(bench)]
    result = {
        "study": predictor.bundle.study,
        "network": predictor.bundle.model_name,
        "rate": given.rate,
        "studies": len(rows),
        "false_alarms": float(np.any(list(usual.values()), axis=0).mean()),
        "cost": cost(bench),
        "measured": measured,
    }
    if given.json is not None:
        write_json(given.json, result)
    kinds = sorted({kind for row in measured for kind in row["auroc"]})
    print_table(
        f"{result['study']}, {result['network']}: called foreign as they are {result['false_alarms']:.1%}",
        ["", "case", "modality", "n", *(f"AUROC {kind}" for kind in kinds), "its alarm", "called foreign"],
        [
            [row["kind"], row["case"], row["modality"], str(row["studies"]),
             *(f"{row['auroc'][kind]:.3f}" if kind in row["auroc"] else "-" for kind in kinds),
             f"{row['modality_called']:.1%}", f"{row['called_foreign']:.1%}"]
            for row in measured
        ],
    )  # fmt: skip
    print(f"A pass with the warning costs {result['cost']['ratio']:.2f} passes.")


if __name__ == "__main__":
    main()
