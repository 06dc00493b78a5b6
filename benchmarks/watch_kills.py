"""Whether `mailnet watch` answers every study exactly once when it is killed again and again.

    python benchmarks/watch_kills.py [--run RUN] [--kills 50] [--studies 120] [--seed 0] [--json OUT]

Studies of one made-up ultrasound image each arrive all the time, results are taken away the moment they appear, as an
archive would import them, and the watcher gets SIGKILL at random moments: while it starts, predicts, writes and
delivers. Without --run the model is a small one with random weights. At the end every study must have been delivered
once, complete, with the model's own probabilities.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mailnet.bundle import load, save_bundle
from mailnet.data.config import load_config
from mailnet.data.study import load_study
from mailnet.deploy.dicom.inbox import digest
from mailnet.deploy.dicom.ledger import Ledger
from mailnet.files import write_json
from mailnet.nn.registry import create_model

FILES = ["prediction.json", "report.dcm"]
STUDY = """
name: watched
manifest: studies.csv
modalities: {us: {size: 64}}
tasks: {finding: {kind: binary, classes: [none, lesion]}}
split: split
model: {name: mail, options: {width: nano}}
"""


def make_run(folder: Path) -> Path:
    """Write a bundle with random weights."""
    random_images = np.random.default_rng(0)
    rows = ["us,finding,split"]
    for k, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2):
        Image.fromarray(random_images.integers(0, 255, (64, 64), np.uint8)).save(folder / f"{k}.png")
        rows.append(f"{k}.png,{('none', 'lesion')[k % 2]},{split}")
    (folder / "studies.csv").write_text("\n".join(rows) + "\n")
    (folder / "study.yaml").write_text(STUDY)
    config = load_config(folder / "study.yaml")
    data = load_study(config, cache=folder / "cache")
    torch.manual_seed(0)
    network = create_model("mail", data.modalities, data.tasks, **config.model.options)
    return save_bundle(folder / "run" / "bundle", network, "mail", config.model.options, config, data.tables).parent


def send(inbox: Path, kept: Path, number: int) -> str:
    """Let a study arrive, keep a copy, and return its digest."""
    uid = f"1.2.826.0.1.3680043.8.498.{number + 1}"
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.6.1", f"{uid}.1.1"
    one.StudyInstanceUID, one.SeriesInstanceUID, one.Modality = uid, f"{uid}.1", "US"
    one.PatientName, one.PatientID, one.Rows, one.Columns = "Made^Up", str(number), 64, 64
    one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
    one.BitsAllocated, one.BitsStored, one.HighBit = 8, 8, 7
    one.PixelData = np.random.default_rng(number).integers(0, 255, (64, 64), np.uint8).tobytes()
    half = inbox / f".{number}"
    one.save_as(half, enforce_file_format=True)
    (kept / f"{digest(uid)}.dcm").write_bytes(half.read_bytes())
    half.rename(inbox / f"{number}.dcm")
    return digest(uid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--studies", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    dice = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inbox, out, taken, kept = (folder / part for part in ("in", "out", "taken", "kept"))
        for one in (inbox, out, taken, kept):
            one.mkdir()
        run = asked.run or make_run(folder)
        seen: list[str] = []
        ended = threading.Event()

        def take() -> None:
            while not ended.is_set():
                for result in sorted(out.iterdir()):
                    if result.is_dir() and not result.name.startswith("."):
                        seen.append(result.name)
                        result.rename(taken / f"{result.name} {len(seen)}")
                time.sleep(0.002)

        archive = threading.Thread(target=take)
        archive.start()
        sent: list[str] = []
        killed = {"starting": 0, "watching": 0}
        program = [sys.executable, "-c", "from mailnet.cli import main; main()"]
        options = ["watch", run, "--watch", inbox, "--out", out, "--quiet", "0.2", "--device", "cpu"]
        command = [str(part) for part in (*program, *options)]
        for number in range(asked.kills + 1):
            share = asked.studies * (number + 1) // (asked.kills + 1)
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            assert process.stderr is not None
            watching = threading.Event()
            threading.Thread(target=listen, args=(process.stderr, watching), daemon=True).start()
            early = dice.random() < 0.15 and number < asked.kills
            if early:
                time.sleep(dice.uniform(0, 3))
            while not early and not watching.wait(0.1):
                if process.poll() is not None:
                    raise SystemExit(f"the watcher ended by itself with {process.returncode}")
            sent += [send(inbox, kept, k) for k in range(len(sent), share)]
            if number < asked.kills:
                before, end = len(seen), time.monotonic() + dice.choice([5, 60])
                while not early and len(seen) == before and time.monotonic() < end:
                    time.sleep(0.01)  # the first answer takes a while: some kills come before it, most among others
                time.sleep(dice.uniform(0, 0.8))
                killed["watching" if watching.is_set() else "starting"] += 1
            else:
                end = time.monotonic() + 300
                while len(set(seen)) < len(sent) and time.monotonic() < end:
                    time.sleep(0.2)
                time.sleep(3)  # none comes a second time
            process.kill()
            process.wait()
            print(f"{number + 1}: sent {len(sent)}, delivered {len(seen)}", file=sys.stderr, flush=True)
        time.sleep(0.5)
        ended.set()
        archive.join()
        result = judged(run, sent, seen, taken, kept, out) | {"kills": killed}
    print(json.dumps(result, indent=2))
    if asked.json:
        write_json(asked.json, result)
    if result["lost"] or result["twice"] or result["wrong"] or result["incomplete"]:
        raise SystemExit(1)


def listen(stream: Any, watching: threading.Event) -> None:
    """Read what the watcher says, which would block it otherwise."""
    for line in stream:
        if line.startswith("Watching"):
            watching.set()


def judged(run: Path, sent: list[str], seen: list[str], taken: Path, kept: Path, out: Path) -> dict[str, Any]:
    """Return how many studies were delivered how."""
    predictor = load(run, "cpu")
    column = next(iter(predictor.modalities))
    rows = [{predictor.facts.preprocessing[column].column or column: str(kept / f"{one}.dcm")} for one in sent]  # type: ignore[union-attr]
    expected = dict(zip(sent, predictor.predict(rows).as_dicts(), strict=True))
    wrong = incomplete = 0
    for folder in taken.iterdir():
        if sorted(path.name for path in folder.iterdir()) != FILES:
            incomplete += 1
            continue
        said = json.loads((folder / FILES[0]).read_text())["study"]["tasks"]
        pydicom.dcmread(folder / FILES[1])
        for task, answer in expected[folder.name.split()[0]]["tasks"].items():
            values = [answer["probabilities"][key] - p for key, p in said[task]["probabilities"].items()]
            wrong += max(map(abs, values)) > 1e-5
    ledger = Ledger(out / ".mailnet" / "ledger.sqlite")
    done = len(ledger.entries("done"))
    ledger.close()
    return {
        "studies": len(sent),
        "delivered": len(seen),
        "lost": len(set(sent) - set(seen)),
        "twice": len(seen) - len(set(seen)),
        "incomplete": incomplete,
        "wrong": wrong,
        "done in the ledger": done,
    }


if __name__ == "__main__":
    main()
