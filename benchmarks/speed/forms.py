"""What the forms of ``mailnet.nn.merged`` and ``depthwise`` gain: the same weights computed so and as they are written.

    python benchmarks/speed/forms.py [--rounds 7] [--out OUT.json]

A step (forward, backward, Adam), an attack's gradient of the images, and inference of ``mail_reference`` on two images
of 3 x 128 x 128; MSGDC of each of its stages, forward and backward, with the places of the batch for each channel by
which the form is chosen; depthwise convolutions alone. One thread; both forms take turns in one process, and times are
the processor's, medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_worker import make_network

from mailnet.cli.output import print_table
from mailnet.files import write_json
from mailnet.nn import merged
from mailnet.nn.depthwise import depthwise_conv2d
from mailnet.nn.forms import as_defined
from mailnet.nn.layers import channels_last
from mailnet.nn.reference.blocks import EMILA

PRECISIONS = ("fp32", "bf16")
STAGES = ((64, 32), (128, 16), (256, 8), (512, 4))  # channels and pixels a side


def both(call: Callable[[], Any], precision: str, rounds: int) -> tuple[float, float]:
    """Milliseconds of ``call`` as defined, and in the other form."""
    taken: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds + 1):
        for defined, found in taken.items():
            begun = time.process_time()
            with (
                as_defined() if defined else nullcontext(),
                torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
            ):
                call()
            if number:  # the first warms up
                found.append(1000 * (time.process_time() - begun))
    return statistics.median(taken[True]), statistics.median(taken[False])


def network_calls(batch: int) -> dict[str, Callable[[], Any]]:
    inputs = {name: laid(torch.rand(batch, 3, 128, 128)) for name in ("a", "b")}
    network = channels_last(make_network("mail_reference", inputs, [5, 7])).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-4, fused=True)
    labels = torch.arange(batch) % 5

    def loss(network: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        return torch.stack([functional.cross_entropy(x.float(), labels) for x in network(inputs).values()]).sum()

    def step() -> None:
        optimizer.zero_grad()
        loss(network.train().requires_grad_(), inputs).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def attack() -> None:
        seen = {name: x.clone().requires_grad_() for name, x in inputs.items()}
        torch.autograd.grad(loss(network.eval().requires_grad_(False), seen), list(seen.values()))

    def predict() -> None:
        with torch.no_grad():
            network.eval()(inputs)

    return {"training step": step, "gradient of the images": attack, "inference": predict}


def msgdc_call(channels: int, side: int, batch: int) -> Callable[[], Any]:
    unit = channels_last(EMILA(channels, channels))
    x = laid(torch.rand(batch, channels, side, side)).requires_grad_()
    return lambda: torch.autograd.grad(unit.msgdc(x).sum(), [x, *unit.fuse.parameters(), *unit.dwc5.parameters()])


def depthwise_call(channels: int, side: int, kernel: int, stride: int, precision: str) -> Callable[[], Any]:
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    x = laid(torch.rand(8, channels, side, side, dtype=kind)).requires_grad_()
    weight = torch.rand(channels, 1, kernel, kernel, dtype=kind, requires_grad=True)

    def call() -> None:
        y = depthwise_conv2d(x, weight, None, (stride, stride), (kernel // 2, kernel // 2))
        torch.autograd.grad(y, [x, weight], y.detach())

    return call


def laid(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: list[dict[str, Any]] = []

    def note(what: str, call: Callable[[], Any], precision: str) -> None:
        defined, other = both(call, precision, asked.rounds)
        found.append(
            {"what": what, "precision": precision, "ms_defined": defined, "ms": other, "share": other / defined}
        )

    for precision in PRECISIONS:
        for what, call in network_calls(8).items():
            note(f"mail_reference, batch 8, {what}", call, precision)
    threshold, merged.PLACES_A_CHANNEL = merged.PLACES_A_CHANNEL, 0  # merged whatever the number of places
    for precision in PRECISIONS:
        for channels, side in STAGES:
            for batch in (1, 8, 32):
                places = batch * side * side / channels
                what = f"MSGDC, {channels} channels, {side} x {side}, batch {batch}: {places:g} places a channel"
                note(what, msgdc_call(channels, side, batch), precision)
    merged.PLACES_A_CHANNEL = threshold
    for precision in PRECISIONS:
        for channels, side in STAGES:
            for kernel, stride in ((5, 1), (3, 2), (5, 2)):
                what = f"depthwise {kernel} x {kernel}, stride {stride}, {channels} channels, {side} x {side}, batch 8"
                note(what, depthwise_call(channels, side, kernel, stride, precision), "fp32")
                found[-1]["precision"] = precision
    print_table(
        "one thread; milliseconds as defined and in the other form",
        ["", "precision", "as defined", "other form", "share"],
        [
            [row["what"], row["precision"], f"{row['ms_defined']:.2f}", f"{row['ms']:.2f}", f"{row['share']:.2f}"]
            for row in found
        ],
    )
    if asked.out:
        write_json(asked.out, {"torch": str(torch.__version__), "rounds": asked.rounds, "rows": found})


if __name__ == "__main__":
    main()
