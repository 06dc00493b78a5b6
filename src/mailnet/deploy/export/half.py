"""bf16: half the bytes, and in torch, where the processor has such units, less time.

onnxruntime has no bf16 convolutions on CPUs. An ONNX file keeps its weights in bf16 and casts them when it is loaded:
half the size, the speed of float32. A package of ``torch.export`` computes convolutions and matrix products in bf16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from mailnet.deploy.export.fold import clean

SMALLEST = 256  # numbers of a tensor that is worth a cast

aten: Any = torch.ops.aten
COMPUTED = (
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv2d.padding,
    aten.conv3d.padding,
    aten.linear.default,
)


def halve_onnx(source: Path, target: Path) -> None:
    """Write an ONNX file with its large float32 weights as bf16, cast to float32 by the first nodes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(source)
    casts = []
    for one in model.graph.initializer:
        if one.data_type != TensorProto.FLOAT or int(np.prod(one.dims)) < SMALLEST:
            continue
        values = torch.from_numpy(numpy_helper.to_array(one).copy()).to(torch.bfloat16)
        name, dims = one.name, list(one.dims)
        one.Clear()
        one.name, one.data_type = f"{name}.bf16", TensorProto.BFLOAT16
        one.dims.extend(dims)
        one.raw_data = values.view(torch.int16).numpy().tobytes()
        casts.append(helper.make_node("Cast", [one.name], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(model)
    onnx.save(model, target)


@torch.no_grad()
def halve_graph(graph: fx.GraphModule) -> None:
    """Let convolutions and linear layers of a simplified graph compute in bf16, in place; all else stays float32."""
    halved: dict[str, str] = {}
    for node in list(graph.graph.nodes):
        if node.target not in COMPUTED:
            continue
        x, *rest = node.args
        given = [part for part in rest[:2] if isinstance(part, fx.Node)]
        if any(part.op != "get_attr" for part in given):
            continue  # weights that are computed
        with graph.graph.inserting_before(node):
            cast = graph.graph.call_function(aten.to.dtype, (x, torch.bfloat16))
            weights = [
                graph.graph.get_attr(_half(graph, str(part.target), halved)) if isinstance(part, fx.Node) else part
                for part in rest[:2]
            ]
        node.args = (cast, *weights, *rest[2:])
        with graph.graph.inserting_after(node):
            back = graph.graph.call_function(aten.to.dtype, (node, torch.float32))
        node.replace_all_uses_with(back, delete_user_cb=lambda user, back=back: user is not back)
    clean(graph)  # among it the float32 weights
    graph.graph.lint()


def _half(graph: fx.GraphModule, target: str, halved: dict[str, str]) -> str:
    if target not in halved:
        value: Any = graph
        for part in target.split("."):
            value = getattr(value, part)
        tensor: Tensor = value
        halved[target] = f"half_{len(halved)}"
        graph.register_buffer(halved[target], tensor.detach().to(torch.bfloat16))
    return halved[target]


def bf16_units() -> str | None:
    """Return the name of this processor's units for bf16, None where torch would emulate them."""
    found = torch.backends.cpu.get_cpu_capability()
    if getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)():
        return "AMX"
    if getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
        return "AVX512-bf16"
    return "SVE" if found.startswith("SVE") else None
