"""A network of mailnet as a contender; see ``compare.py``.

predict: ``eager``, ``compiled`` by torch.compile with weights frozen, ``onnxruntime`` or ``openvino``, each fp32, bf16
or int8 where it has it. train: eight steps of
Adam. attack: ten steps of ``mailnet.attacks``' PGD on all studies to the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from served import serve
from torch import Tensor, nn
from torch.nn import functional

from mailnet.attacks import Objective, Problem, Threat, get_attack
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.nn.layers import channels_last
from mailnet.specs import ModalitySpec, TaskSpec

BATCHES = 8  # of one call of train
NAMES = ("a", "b")


class Positional(nn.Module):
    """A network whose inputs are positions and whose outputs are probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return tuple(logits.softmax(1) for logits in self.network({"a": a, "b": b}).values())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["predict", "train", "attack"])
    parser.add_argument("engine", choices=["eager", "compiled", "onnxruntime", "openvino"])
    parser.add_argument("case", help="npz: images, labels and weights")
    parser.add_argument("--network", default="mail_reference")
    parser.add_argument("--precision", choices=["fp32", "bf16", "int8"], default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with np.load(asked.case, allow_pickle=False) as case:
        arrays = {name: case[name] for name in case.files}
    inputs = {name: torch.from_numpy(arrays[f"input.{name}"]) for name in NAMES}
    labels = {name.removeprefix("label."): torch.from_numpy(arrays[name]) for name in arrays if "label." in name}
    network = make_network(asked.network, inputs, [int(k) for k in arrays["classes"]])
    if asked.network == "mail_reference":
        state = {n.removeprefix("weights."): torch.from_numpy(v) for n, v in arrays.items() if n.startswith("weights.")}
        network.load_state_dict(state)
    network = channels_last(network)
    if asked.what == "predict":
        with torch.inference_mode():
            engines = {"eager": eager, "compiled": compiled, "onnxruntime": onnxruntime, "openvino": openvino}
            predict = engines[asked.engine](network, inputs, asked.precision, asked.threads)
            serve(predict, facts={"probabilities": [np.asarray(answer).tolist() for answer in predict()]})
    elif asked.what == "train":
        serve(trainer(network, inputs, labels, asked.precision), BATCHES)
    else:
        serve(attacker(network, inputs, labels, asked.precision))


def make_network(name: str, inputs: dict[str, Tensor], classes: list[int]) -> nn.Module:
    modalities = {
        k: ModalitySpec(name=k, kind="image", channels=x.shape[1], size=tuple(x.shape[2:])) for k, x in inputs.items()
    }
    tasks = {
        f"t{n}": TaskSpec(name=f"t{n}", kind="multiclass", classes=tuple(map(str, range(k))))
        for n, k in enumerate(classes)
    }
    torch.manual_seed(0)  # the same weights in every process
    return create_model(name, modalities, tasks).eval()


def eager(network: nn.Module, inputs: dict[str, Tensor], precision: str, threads: int) -> Callable[[], list[Any]]:
    laid = {name: x.contiguous(memory_format=torch.channels_last) for name, x in inputs.items()}

    def call() -> list[Any]:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return [logits.float().softmax(1).numpy() for logits in network(laid).values()]

    return call


def compiled(network: nn.Module, inputs: dict[str, Tensor], precision: str, threads: int) -> Callable[[], list[Any]]:
    from torch._inductor import config

    config.freezing = True
    faster: Any = torch.compile(network)
    call = eager(faster, inputs, precision, threads)

    def outside() -> list[Any]:
        with torch.inference_mode(False):  # weights are frozen under the no_grad of ``eager`` alone
            return call()

    return outside


def graph(network: nn.Module, inputs: dict[str, Tensor], precision: str, folder: Path) -> Path:
    """The network as an ONNX file; int8 by static quantisation with ranges of the same images."""
    file = folder / "model.onnx"
    options: dict[str, Any] = {"input_names": list(NAMES), "verbose": False}
    with torch.inference_mode(False), torch.no_grad():
        exported = torch.onnx.export(Positional(network), tuple(inputs.values()), dynamo=True, **options)
    assert exported is not None
    exported.save(file)
    if precision != "int8":
        return file
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([{name: x.numpy() for name, x in inputs.items()}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    quantized = folder / "int8.onnx"
    quantization.quantize_static(
        file, quantized, Reader(), per_channel=True, op_types_to_quantize=["Conv"], reduce_range=True
    )
    return quantized


def onnxruntime(network: nn.Module, inputs: dict[str, Tensor], precision: str, threads: int) -> Callable[[], list[Any]]:
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        session = runtime.InferenceSession(graph(network, inputs, precision, Path(folder)), options)
    feed = {name: x.numpy() for name, x in inputs.items()}
    return lambda: session.run(None, feed)


def openvino(network: nn.Module, inputs: dict[str, Tensor], precision: str, threads: int) -> Callable[[], list[Any]]:
    import openvino as ov

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
        "NUM_STREAMS": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        model = ov.Core().compile_model(graph(network, inputs, precision, Path(folder)), "CPU", options)
    request = model.create_infer_request()
    feed = {name: x.numpy() for name, x in inputs.items()}
    return lambda: [answer.copy() for answer in request.infer(feed).values()]


def trainer(
    network: nn.Module, inputs: dict[str, Tensor], labels: dict[str, Tensor], precision: str
) -> Callable[[], None]:
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-4, fused=True)  # as mailnet trains
    laid = {name: x.contiguous(memory_format=torch.channels_last) for name, x in inputs.items()}

    def call() -> None:
        for _ in range(BATCHES):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                logits = network(laid)
            loss = torch.stack([functional.cross_entropy(logits[task].float(), labels[task]) for task in logits]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return call


def attacker(
    network: nn.Module, inputs: dict[str, Tensor], labels: dict[str, Tensor], precision: str
) -> Callable[[], Tensor]:
    network.requires_grad_(False)
    present = {name: torch.ones(len(x), dtype=torch.bool) for name, x in inputs.items()}
    threat = Threat("linf", dict.fromkeys(inputs, 4 / 255))

    def call() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            problem = Problem(network, Batch(inputs, present, labels), threat, Objective("ce"))
            found: Tensor = get_attack("pgd")(
                problem, steps=10, step=0.25, random_start=False, early_drop=False, generator=torch.Generator()
            )
        return found

    return call


if __name__ == "__main__":
    sys.exit(main())
