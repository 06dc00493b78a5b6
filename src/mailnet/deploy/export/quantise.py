"""int8: an ONNX graph whose convolutions compute with whole numbers, by onnxruntime's static quantisation.

Weights are int8 with a scale a channel, activations uint8 with ranges measured on validation studies. What follows the
trunks (pooling, fusion, heads, softmax, calibration) is a thousandth of the work and stays float. Weights keep seven
bits: with eight, sums overflow on processors before VNNI, so that the same file would answer differently there.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mailnet.deploy.export.onnx_file import Session
from mailnet.deploy.export.studies import Arrays, Studies, arrays_of

STUDIES = 64  # whose activations are measured
AT_A_TIME = 8
KINDS = ("Conv", "Relu", "MaxPool")  # computed in int8; with sums and means in it answers moved more (BUS-BRA)


@dataclass(frozen=True)
class Recipe:
    """One way to quantise.

    Args:
        method: How a range is chosen from the activations seen: ``MinMax``, ``Percentile`` or ``Entropy``.
        first_float: The first convolution of each image stays float.
    """

    method: str
    first_float: bool


RECIPES = (Recipe("MinMax", False), Recipe("MinMax", True), Recipe("Percentile", True), Recipe("Entropy", True))


def quantise(
    source: Path, target: Path, studies: Studies, advance: Callable[[int], None] = lambda count: None
) -> dict[str, Any]:
    """Write the int8 file whose answers to validation studies are nearest to those of the float file.

    Labels would choose by a few studies near the border of two classes; how far all answers move says more.

    Args:
        source: The float file.
        target: The file to write.
        studies: Validation studies: activations of some are measured, all of them choose.
        advance: Called with 1 after each recipe.

    Returns:
        ``method``, ``first_float``, ``studies`` measured, and ``tried``: each recipe with the mean ``difference`` of
        its probabilities.
    """
    prepared = target.with_name("prepared.onnx")
    with _quiet():
        _prepare(source, prepared)
    tried = []
    best = float("inf")
    expected = studies.ask(Session(source).run, np.arange(len(studies)))
    try:
        for recipe in RECIPES:
            candidate = target.with_name("candidate.onnx")
            with _quiet():
                _quantise(prepared, candidate, studies, recipe)
            answers = studies.ask(Session(candidate).run, np.arange(len(studies)))
            moved = [np.abs(answers[task] - expected[task]).mean() for task in studies.bundle.tasks]
            difference = float(np.mean(moved))
            tried.append({**asdict(recipe), "difference": round(difference, 6)})
            if difference < best:
                best = difference
                candidate.replace(target)
                chosen = recipe
            candidate.unlink(missing_ok=True)
            advance(1)
    finally:
        prepared.unlink(missing_ok=True)
    return {**asdict(chosen), "studies": len(studies.some(STUDIES)), "split": studies.split, "tried": tried}


def _prepare(source: Path, target: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # The shapes that matter are in the file already, and symbolic inference would ask for sympy's solver.
    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)


def _quantise(source: Path, target: Path, studies: Studies, recipe: Recipe) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        str(source),
        str(target),
        _reader(studies),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(KINDS),
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=_first_convolutions(onnx.load(source)) if recipe.first_float else [],
        calibrate_method=CalibrationMethod[recipe.method],
    )


def _reader(studies: Studies) -> Any:
    # Any class with get_next counts as a CalibrationDataReader.
    class Reader:
        def __init__(self) -> None:
            self._batches = _batches(studies)

        def get_next(self) -> Arrays | None:
            return next(self._batches, None)

    return Reader()


def _batches(studies: Studies) -> Iterator[Arrays]:
    rows = studies.some(STUDIES)
    # Batches of one size: some methods stack what they have measured.
    for start in range(0, len(rows), AT_A_TIME):
        several = np.resize(rows[start : start + AT_A_TIME], AT_A_TIME)
        yield arrays_of(studies.batch(several), studies.bundle, studies.masks)


def _first_convolutions(model: Any) -> list[str]:
    """Return the convolutions that no other one comes before."""
    behind: set[str] = set()
    found = []
    for node in model.graph.node:
        after = any(name in behind for name in node.input)
        if node.op_type == "Conv" and not after:
            found.append(node.name)
        if after or node.op_type == "Conv":
            behind.update(node.output)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the quantiser logs and prints from the user, and from programs that read JSON on stdout."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
