"""Images a second on an accelerator, and how much of what the machine could do that is.

    python benchmarks/gpu.py [--minutes 7.5] [--batch 64] [--size 128] [--networks mail ...] [--out OUT.json]

Without a CUDA device it says so and ends with 0. For each network: inference and a training step (forward, backward,
Adam) in fp32, tf32 and bf16, eager, and in bf16 compiled with CUDA graphs, against two ResNet-18. A step's floor is the
larger of two times: its floating-point operations (counted by torch) at the speed of a large matrix product, and the
bytes that its convolutions and matrix products must read and write at the speed of a large copy, both measured here.
``share`` is floor over time. First come the blocks MSGDC and EMCAM alone, whose floor is their input read once and
their output written once. What does not fit into ``--minutes`` is listed as not measured. ``--device cpu`` tries the
command itself on a machine without one.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mailnet.cli.output import print_table
from mailnet.files import write_json
from mailnet.nn import create_model
from mailnet.nn.layers import channels_last
from mailnet.nn.presence import resolve_presence
from mailnet.specs import ModalitySpec, TaskSpec

PRECISIONS = ("fp32", "tf32", "bf16")
ROUNDS, CALLS = 5, 10
UNCACHED = 2**28  # bytes that no cache holds
HEAVY = ("convolution", "mm", "addmm", "bmm")


class HeavyBytes(TorchDispatchMode):
    """Counts the bytes that convolutions and matrix products read and write, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(word in func.__name__ for word in HEAVY):
            with self:  # without gradients a layer comes as conv2d or linear, which are made of what is counted
                found = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if found is NotImplemented else found
        found = func(*args, **kwargs)
        several = found if isinstance(found, tuple | list) else [found]
        self.bytes += sum(x.nbytes for x in [*args, *several] if isinstance(x, Tensor))
        return found


def backward_flops(grad: Any, x: Any, weight: Any, *rest: Any, **_: Any) -> int:
    """Operations of a convolution's backward: those of the forward for each gradient, also of groups.

    torch's own formula counts the gradient of a kernel as if every group met every other, for a depthwise kernel as
    many times too much as there are channels.

    Args:
        grad: Shape of the gradient, (N, C_out, ...).
        x: Shape of the input.
        weight: Shape of the kernel, (C_out, C_in / groups, ...).
        rest: Bias, stride, padding, dilation, transposed, output padding, groups, and which gradients are wanted.
    """
    transposed, wanted = rest[4], rest[7]
    return int(2 * math.prod(x if transposed else grad) * math.prod(weight[1:]) * sum(wanted[:2]))


@dataclass
class Machine:
    """A device with what it can do: operations a second by precision, bytes a second."""

    device: torch.device
    flops: dict[str, float]
    bandwidth: float

    def floor(self, flops: float, moved: float, precision: str) -> float:
        return max(flops / self.flops[precision], moved / self.bandwidth)


@contextmanager
def computing(device: torch.device, precision: str) -> Iterator[None]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield


def seconds(call: Callable[[], Any], device: torch.device, calls: int = CALLS) -> float:
    """The median over rounds of the seconds of a call, after three that do not count."""
    for _ in range(3):
        call()
    found = []
    for _ in range(ROUNDS):
        wait(device)
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        wait(device)
        found.append((time.perf_counter() - begun) / calls)
    return statistics.median(found)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def look_at(device: torch.device) -> Machine:
    side, room = (8192, 2**30) if device.type == "cuda" else (512, 2**24)
    flops = {}
    for precision in PRECISIONS:
        a = torch.rand(side, side, device=device)
        with computing(device, precision):
            b = a.bfloat16() if precision == "bf16" else a
            flops[precision] = 2 * side**3 / seconds(lambda b=b: b @ b, device)  # type: ignore[misc]
    source = torch.empty(room, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Machine(device, flops, 2 * room / seconds(lambda: target.copy_(source), device))


@dataclass
class Case:
    """A network with studies to be asked about or to learn from."""

    network: nn.Module
    inputs: dict[str, Tensor]
    labels: dict[str, Tensor]

    def inference(self, forward: Callable[..., Any]) -> Callable[[], Any]:
        self.network.eval()

        def call() -> Any:
            with torch.inference_mode():
                return forward(self.inputs)

        return call

    def training(self, forward: Callable[..., Any]) -> Callable[[], Any]:
        self.network.train()
        optimizer = torch.optim.Adam(self.network.parameters(), 1e-4, capturable=self.device.type == "cuda")

        def call() -> None:
            logits = forward(self.inputs)
            loss = torch.stack([functional.cross_entropy(logits[k].float(), self.labels[k]) for k in logits]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return call

    @property
    def device(self) -> torch.device:
        return next(iter(self.inputs.values())).device


def make_case(name: str, batch: int, size: int, device: torch.device) -> Case:
    torch.manual_seed(0)
    modalities = {k: ModalitySpec(name=k, kind="image", channels=3, size=(size, size)) for k in ("a", "b")}
    tasks = {k: TaskSpec(name=k, classes=("0", "1", "2", "3")) for k in ("s", "t")}
    network = channels_last(create_model(name, modalities, tasks).to(device))
    inputs = {k: torch.rand(batch, 3, size, size, device=device) for k in modalities}
    laid = {k: x.contiguous(memory_format=torch.channels_last) for k, x in inputs.items()}
    return Case(network, laid, {k: torch.randint(0, 4, (batch,), device=device) for k in tasks})


def counted(call: Callable[[], Any]) -> tuple[float, float]:
    """Floating-point operations, and bytes of what computes them."""
    known = {torch.ops.aten.convolution_backward: backward_flops}
    with FlopCounterMode(display=False, custom_mapping=known) as flops, HeavyBytes() as moved:
        call()
    return float(flops.get_total_flops()), float(moved.bytes)


def measure_network(name: str, asked: argparse.Namespace, machine: Machine, deadline: float) -> list[dict[str, Any]]:
    rows = []
    for what in ("inference", "training"):
        kinds = [(precision, "eager") for precision in PRECISIONS]
        kinds += [("bf16", "compiled")] if asked.compile else []
        for precision, kind in kinds:
            row: dict[str, Any] = {"network": name, "what": what, "precision": precision, "kind": kind}
            rows.append(row)
            if time.monotonic() > deadline:
                row["not_measured"] = "out of time"
                continue
            case = make_case(name, asked.batch, asked.size, machine.device)
            forward = torch.compile(case.network, mode="reduce-overhead") if kind == "compiled" else case.network
            with computing(machine.device, precision):
                plain = getattr(case, what)(case.network)
                plain()
                flops, moved = counted(plain)
                took = seconds(getattr(case, what)(forward), machine.device)
            floor = machine.floor(flops, moved, precision)
            row |= {"images_a_second": 2 * asked.batch / took, "seconds": took, "floor": floor, "share": floor / took}
            row |= {"gflop": flops / 1e9, "gbyte": moved / 1e9}
            torch._dynamo.reset()
    return rows


def measure_blocks(asked: argparse.Namespace, machine: Machine, deadline: float) -> list[dict[str, Any]]:
    """MSGDC and EMCAM at the widths of the first and third stage, forwards in bf16.

    Of so many studies that no cache holds an input, since the floor is that of the memory.
    """
    from mailnet.nn.emcam import EMCAM, EMCAMOptions
    from mailnet.nn.reference.blocks import EMCAM as PublishedEMCAM
    from mailnet.nn.reference.blocks import EMILA

    rows = []
    for width, grid in ((64, asked.size // 4), (256, asked.size // 16)):
        room = UNCACHED if machine.device.type == "cuda" else 0
        count = max(asked.batch, room // (2 * width * grid**2))
        x, y = (
            torch.rand(count, width, grid, grid, device=machine.device, dtype=torch.bfloat16).contiguous(
                memory_format=torch.channels_last
            )
            for _ in range(2)
        )
        specs = {k: ModalitySpec(name=k, kind="image", channels=3, size=(asked.size, asked.size)) for k in ("a", "b")}
        inputs = {"a": x, "b": y}
        presence = resolve_presence(specs, inputs, None, False)
        msgdc, published = EMILA(width, width).eval(), PublishedEMCAM(width).eval()
        ours = EMCAM(specs, width, EMCAMOptions()).eval()
        blocks: dict[str, tuple[nn.Module, Callable[[], Any], int]] = {
            "MSGDC": (msgdc, lambda m=msgdc, x=x: m.msgdc(x), 2),  # type: ignore[misc]
            "EMCAM as published": (published, lambda m=published, x=x, y=y: m([x, y]), 4),  # type: ignore[misc]
            "EMCAM": (ours, lambda m=ours, xs=inputs, p=presence: m(xs, p), 4),  # type: ignore[misc]
        }
        for name, (module, call, tensors) in blocks.items():
            module.to(machine.device)
            for kind in ("eager", "compiled") if asked.compile else ("eager",):
                row: dict[str, Any] = {"network": f"{name} {width}", "what": "block", "precision": "bf16", "kind": kind}
                rows.append(row)
                if time.monotonic() > deadline:
                    row["not_measured"] = "out of time"
                    continue
                run = torch.compile(call, mode="reduce-overhead") if kind == "compiled" else call
                with torch.inference_mode(), computing(machine.device, "bf16"):
                    took = seconds(run, machine.device)
                floor = tensors * x.nbytes / machine.bandwidth
                images = count * tensors // 2
                row |= {"images_a_second": images / took, "seconds": took, "floor": floor, "share": floor / took}
                torch._dynamo.reset()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--networks", nargs="+", default=["two_branch_resnet18", "mail", "mail_reference"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    deadline = time.monotonic() + 60 * asked.minutes
    device = torch.device(asked.device)
    machine = look_at(device)
    rows = measure_blocks(asked, machine, deadline)
    rows += [row for name in asked.networks for row in measure_network(name, asked, machine, deadline)]
    peer = {
        (r["what"], r["precision"], r["kind"]): r["seconds"]
        for r in rows
        if r["network"] == asked.networks[0] and "seconds" in r
    }
    fp32 = {(r["network"], r["what"]): r["seconds"] for r in rows if r["precision"] == "fp32" and "seconds" in r}
    speeds = ", ".join(f"{name} {value / 1e12:.1f} TFLOP/s" for name, value in machine.flops.items())
    print(f"matrix products {speeds}; copy {machine.bandwidth / 1e9:.0f} GB/s")
    columns = [*[""] * 4, "images a second", "ms", "of the floor", "times eager fp32", f"times {asked.networks[0]}"]
    table = []
    for row in rows:
        head = [row[k] for k in ("network", "what", "precision", "kind")]
        if "seconds" not in row:
            table.append([*head, "not measured", "", "", "", ""])
            continue
        same = peer.get((row["what"], row["precision"], row["kind"]))
        first = fp32.get((row["network"], row["what"]))
        table.append(
            [
                *head,
                f"{row['images_a_second']:.0f}",
                f"{1000 * row['seconds']:.3f}",
                f"{100 * row['share']:.0f} %",
                f"{first / row['seconds']:.2f}" if first else "",
                f"{same / row['seconds']:.2f}" if same else "",
            ]
        )
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print_table(f"{device_name}, batch {asked.batch}, {asked.size} pixels", columns, table)
    if asked.out:
        write_json(
            asked.out,
            {
                "batch": asked.batch,
                "size": asked.size,
                "flops": machine.flops,
                "bandwidth": machine.bandwidth,
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
