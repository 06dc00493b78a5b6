"""An exported graph made smaller: what does not depend on the inputs is computed once, and batch norms are folded."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, fx

aten: Any = torch.ops.aten
Constants: TypeAlias = dict[fx.Node, Any]
CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.conv2d.padding, aten.conv3d.padding)
LARGEST = 2**26  # numbers of a constant; a larger one is computed at every call


@torch.no_grad()
def simplify(graph: fx.GraphModule) -> None:
    """Simplify the graph of a network in evaluation mode, in place.

    Args:
        graph: What ``torch.export.export(...).module()`` gives.
    """
    for node in list(graph.graph.nodes):
        guards = node.op == "call_module" and str(node.target).endswith("_guards_fn")
        if guards or node.target is aten._assert_tensor_metadata.default:
            graph.graph.erase_node(node)
        elif node.target in (aten.dropout.default, aten.detach_.default):
            # In-place, detaching fails on the views that a loaded package has for constants.
            _replace(graph, node, node.args[0])
        elif node.target is aten.cummin.default:
            _running_minimum(graph, node)
    _fold_constants(graph)
    for node in list(graph.graph.nodes):
        if node.target is aten.batch_norm.default:
            _fold_batch_norm(graph, node)
    clean(graph)


@torch.no_grad()
def lay_out(graph: fx.GraphModule) -> None:
    """Lay the kernels of 2-D convolutions out with channels last, in place, as ``mailnet.nn.layers.channels_last``."""
    for node in graph.graph.nodes:
        kernel = node.args[1] if node.target in (aten.conv2d.default, aten.conv2d.padding) else None
        if kernel is None or kernel.op != "get_attr":
            continue
        weight = _attribute_of(graph, kernel)
        _, channels, height, width = weight.shape
        laid = weight.data.contiguous(memory_format=torch.channels_last)
        # Of one channel both layouts are the same numbers, and torch takes the strides of the other one.
        weight.data = laid.as_strided(laid.shape, (channels * height * width, 1, channels * width, channels))


def operations(graph: fx.GraphModule) -> list[str]:
    """Return the names of all operations of a graph."""
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


def _fold_constants(graph: fx.GraphModule) -> None:
    known: Constants = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            known[node] = _attribute(graph, str(node.target))
        elif node.op == "call_function" and _is_constant(node, known):
            value = node.target(*_values(node.args, known), **_values(node.kwargs, known))
            if not isinstance(value, Tensor) or value.numel() <= LARGEST:
                known[node] = value
    for node in list(known):
        needed = any(user not in known for user in node.users)
        if node.op == "call_function" and needed and isinstance(known[node], Tensor):
            _replace(graph, node, _constant(graph, node, known[node]))
    clean(graph)


def _is_constant(node: fx.Node, known: Constants) -> bool:
    if any(source not in known for source in node.all_input_nodes):
        return False
    target: Any = node.target
    if target is operator.getitem:
        return True
    if not isinstance(target, torch._ops.OpOverload):
        return False
    return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags


def _fold_batch_norm(graph: fx.GraphModule, node: fx.Node) -> None:
    """Put a batch norm into the convolution before it; elsewhere it becomes a product and a sum."""
    x, weight, bias, mean, var, _, _, epsilon = node.args[:8]
    shift_by, variance = (_attribute_of(graph, one) for one in (mean, var))
    scale = torch.rsqrt(variance.double() + float(str(epsilon)))
    if weight is not None:
        scale = scale * _attribute_of(graph, weight).double()
    shift = -shift_by.double() * scale
    if bias is not None:
        shift = shift + _attribute_of(graph, bias).double()
    before: Any = x
    kernel = before.args[1] if before.target in CONVOLUTIONS else None
    if kernel is not None and kernel.op == "get_attr" and len(before.users) == 1:
        old = _attribute_of(graph, kernel)
        own = before.args[2] if len(before.args) > 2 else None
        if own is not None:
            shift = shift + _attribute_of(graph, own).double() * scale
        folded = (old.double() * scale.reshape(-1, *(1,) * (old.ndim - 1))).to(old.dtype)
        constants = [_constant(graph, before, value) for value in (folded, shift.to(old.dtype))]
        before.args = (before.args[0], *constants, *before.args[3:])
        _replace(graph, node, before)
        return
    shape = (-1, *(1,) * (before.meta["val"].ndim - 2))
    dtype = shift_by.dtype
    with graph.graph.inserting_before(node):
        factor, term = (_constant(graph, node, value.to(dtype).reshape(shape)) for value in (scale, shift))
        scaled = graph.graph.call_function(aten.mul.Tensor, (before, factor))
        moved = graph.graph.call_function(aten.add.Tensor, (scaled, term))
    _replace(graph, node, moved)


def _running_minimum(graph: fx.GraphModule, node: fx.Node) -> None:
    """Write the running minimum over a task's few thresholds, which ONNX does not know, as minima of two."""
    x, dim = cast(fx.Node, node.args[0]), cast(int, node.args[1])
    size = x.meta["val"].shape[dim]
    with graph.graph.inserting_before(node):
        lowest = [graph.graph.call_function(aten.select.int, (x, dim, k)) for k in range(size)]
        for k in range(1, size):
            lowest[k] = graph.graph.call_function(aten.minimum.default, (lowest[k - 1], lowest[k]))
        together = graph.graph.call_function(aten.stack.default, (lowest, dim))
    for user in list(node.users):
        if user.args[1] == 0:
            _replace(graph, user, together)
        else:
            graph.graph.erase_node(user)
    graph.graph.erase_node(node)


def _constant(graph: fx.GraphModule, before: fx.Node, value: Tensor) -> fx.Node:
    number = sum(1 for name, _ in graph.named_buffers(recurse=False) if name.startswith("folded_"))
    name = f"folded_{number}"
    graph.register_buffer(name, value.detach().clone().contiguous())
    with graph.graph.inserting_before(before):
        return graph.graph.get_attr(name)


def _replace(graph: fx.GraphModule, node: fx.Node, other: Any) -> None:
    node.replace_all_uses_with(other)
    graph.graph.erase_node(node)


def clean(graph: fx.GraphModule) -> None:
    """Delete operations, weights and constants that nothing reads, and compile the graph anew, in place."""
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    used = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    tensors = (*graph.named_parameters(remove_duplicate=False), *graph.named_buffers(remove_duplicate=False))
    for name in {name for name, _ in tensors if name not in used}:
        owner, _, last = name.rpartition(".")
        delattr(graph.get_submodule(owner), last)
    graph.recompile()


def _attribute(graph: fx.GraphModule, target: str) -> Any:
    found: Any = graph
    for part in target.split("."):
        found = getattr(found, part)
    return found


def _attribute_of(graph: fx.GraphModule, node: Any) -> Tensor:
    found: Tensor = _attribute(graph, str(node.target))
    return found


def _values(arguments: Any, known: Constants) -> Any:
    return fx.map_arg(arguments, lambda node: known[node])


def unfolded(names: Iterable[str]) -> list[str]:
    """Return the operations among these that normalise by batch statistics.

    >>> unfolded(["aten.conv2d.default", "aten.batch_norm.default", "LayerNormalization"])
    ['aten.batch_norm.default']
    """
    return [name for name in names if "batch_norm" in name or name == "BatchNormalization"]
