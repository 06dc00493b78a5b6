"""``model.onnx``: written of an exported graph, and run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

import mailnet
from mailnet.deploy.export.fold import unfolded
from mailnet.deploy.export.program import Exported, quiet, reasons

FILE = "model.onnx"
OPSET = 20


def write_onnx(path: Path, exported: Exported) -> None:
    """Write a graph with named inputs and outputs, of any number of studies.

    Raises:
        RunError: ONNX has no word for something in it.
    """
    import onnx
    import torch

    names = exported.names
    # Named anew afterwards: a task may be called as a value inside the graph.
    renamed = {f"mailnet.{side}.{k}": name for side, several in (("in", names.inputs), ("out", names.outputs))
               for k, name in enumerate(several)}  # fmt: skip
    with reasons(exported.bundle.model_name, exported.noise), quiet():
        program = torch.onnx.export(
            exported.program(),
            dynamo=True,
            input_names=list(renamed)[: len(names.inputs)],
            output_names=list(renamed)[len(names.inputs) :],
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
        _rename(model, renamed)
        if left := unfolded(node.op_type for node in model.graph.node):
            raise ValueError(f"'{left[0]}' was not folded")
        del model.metadata_props[:], model.functions[:]
        for node in model.graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
            del value.metadata_props[:]
        model.producer_name, model.producer_version = "mailnet", mailnet.__version__
        model.doc_string = "For research use; not a medical device."
        onnx.checker.check_model(model)
        onnx.save(model, path)


def _rename(model: Any, new: dict[str, str]) -> None:
    """Give inputs and outputs new names, and what lies inside short ones of its own."""
    graph = model.graph
    inside = [one.name for one in graph.initializer] + [value for node in graph.node for value in node.output]
    new = {"": "", **{name: f"mailnet.{k}" for k, name in enumerate(inside)}, **new}
    for node in graph.node:
        node.input[:] = [new[name] for name in node.input]
        node.output[:] = [new[name] for name in node.output]
    for one in (*graph.initializer, *graph.value_info, *graph.input, *graph.output):
        one.name = new.get(one.name, one.name)


class Session:
    """A graph that onnxruntime runs on the CPU.

    Args:
        path: The file.
        threads: Threads of one operation; 0 for as many as there are cores.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # Threads that wait for work by turning would take it from whatever else is measured or served beside.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = {one.name: one for one in self._session.get_inputs()}
        self.outputs = [one.name for one in self._session.get_outputs()]

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return output -> array from input -> array, both by the graph's names."""
        found = self._session.run(self.outputs, {name: arrays[name] for name in self.inputs})
        return dict(zip(self.outputs, cast("list[np.ndarray]", found), strict=True))
