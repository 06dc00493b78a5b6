"""An exported folder that is written without an export."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from mailnet.bundle import read_facts
from mailnet.files import write_json


def write_exported(run: Path, folder: Path) -> Path:
    """An exported folder of a run: its facts, and a graph that answers by the means of its inputs."""
    shutil.copytree(run / "bundle", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    facts = read_facts(folder)
    inputs, present, means = [], [], []
    nodes: list[onnx.NodeProto] = []
    for name, spec in facts.modalities.items():
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", spec.channels, *(spec.size or ())]))
        present.append(helper.make_tensor_value_info(f"present.{name}", TensorProto.BOOL, ["n"]))
        nodes.append(helper.make_node("Flatten", [name], [f"flat.{name}"]))
        nodes.append(helper.make_node("ReduceMean", [f"flat.{name}", "axis"], [f"mean.{name}"], keepdims=1))
        nodes.append(helper.make_node("Cast", [f"present.{name}"], [f"here.{name}"], to=TensorProto.FLOAT))
        means += [f"mean.{name}", f"row.{name}"]
        nodes.append(helper.make_node("Unsqueeze", [f"here.{name}", "axis"], [f"row.{name}"]))
    nodes.append(helper.make_node("Concat", means, ["all"], axis=1))
    tensors = [helper.make_tensor("axis", TensorProto.INT64, [1], [1])]
    outputs = []
    for name, task in facts.tasks.items():
        shape = [len(means), len(task.classes)]
        weights = np.random.default_rng(0).normal(0, 3, shape)
        tensors.append(helper.make_tensor(f"weights.{name}", TensorProto.FLOAT, shape, weights.ravel()))
        nodes.append(helper.make_node("MatMul", ["all", f"weights.{name}"], [f"logits.{name}"]))
        nodes.append(helper.make_node("Softmax", [f"logits.{name}"], [f"raw.{name}"], axis=1))
        outputs.append(helper.make_tensor_value_info(f"raw.{name}", TensorProto.FLOAT, ["n", shape[1]]))
    graph = helper.make_graph(nodes, "made up", [*inputs, *present], outputs, tensors)
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    values = {"format": 1, "runtime": "onnx", "file": "model.onnx", "noise": None, "absence": True,
              "sha256": hashlib.sha256(content).hexdigest(), "outputs": [one.name for one in outputs],
              "source": {"weights": "0" * 64}}  # fmt: skip
    write_json(folder / "export.json", values)
    return folder
