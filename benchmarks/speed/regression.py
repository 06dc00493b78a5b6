"""Whether the networks have become slower: their times beside two ResNet-18 now, and as last committed.

    python benchmarks/speed/regression.py [--rounds 7] [--write]

Inference, training steps and attacks of one thread, two images of 3 x 64 x 64, eight studies; every contender is a
process, round after round, see ``compare.py``. What counts is a ratio to ``two_branch_resnet18`` (eager, fp32) in the
same run, so that another machine or a busy one changes little. A ratio worse by more than a fifth is marked; it is a
report, and ends with 0. ``--write`` keeps the figures, in benchmarks/results/speed/regression.json, for later runs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from compare import contenders, make_case, measure

from mailnet.cli.output import print_table
from mailnet.files import read_json, write_json

FILE = Path(__file__).parents[1] / "results/speed/regression.json"
BATCH, SIZE = 8, 64
PEER = "two_branch_resnet18, eager fp32"
WORSE = 0.8  # below this share of the committed ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder), BATCH, SIZE)
        for what in ("predict", "train", "attack"):
            # openvino is no part of an installation, so it is left out.
            field = [c for c in contenders(what, case, 1, None) if "openvino" not in c.name]
            for row in measure(what, field, asked.rounds, BATCH, "cpu", PEER):
                found[f"{what}: {row['contender']}"] = round(row["times_as_fast"], 3)
    known = read_json(FILE)["times_as_fast"] if FILE.is_file() else {}
    rows = [
        [name, f"{ratio:.2f}", f"{known[name]:.2f}" if name in known else "",
         "slower" if name in known and ratio < WORSE * known[name] else ""]
        for name, ratio in found.items()
    ]  # fmt: skip
    print_table(f"times as fast as {PEER}", ["", "now", "committed", ""], rows)
    if asked.write:
        write_json(FILE, {"peer": PEER, "torch": str(torch.__version__), "times_as_fast": found})


if __name__ == "__main__":
    main()
