"""Predictions of an exported folder by onnxruntime, without torch: the same files in, the same answers out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mailnet.bundle import StudyPredictor, find_bundle, read_facts
from mailnet.bundle.asking import Answers
from mailnet.bundle.reading import Read
from mailnet.deploy.layout import FACTS, FORMAT
from mailnet.errors import ConfigError, DataError, RunError
from mailnet.files import read_part

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class RuntimePredictor(StudyPredictor):
    """An exported model with everything that it needs to read a study.

    It has the ``predict`` of ``mailnet.bundle.Predictor`` and answers as that does, within what ``export.json`` says of
    its verification. It computes on CPUs.

    Args:
        folder: What ``mailnet export`` wrote, in ONNX.
        threads: Of one computation; 0 for as many as there are cores.
        raw: Give probabilities as the network does, without calibration, prediction sets and warnings of foreign
            studies.

    Raises:
        RunError: The folder is missing, damaged, of another kind, or written by a newer mailnet.
        ValueError: A negative number of threads.
    """

    def __init__(self, folder: str | Path, *, threads: int = 0, raw: bool = False) -> None:
        if threads < 0:
            raise ValueError(f"threads must be at least 0, got {threads}")
        self.folder = Path(folder)
        self.exported = _read_exported(self.folder)
        super().__init__(read_facts(self.folder), raw=raw)
        self.noise: dict[str, Any] | None = self.exported["noise"]
        self._session = _open(self.folder, self.exported, threads)

    def predict_arrays(
        self, inputs: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return what the graph says of studies that are read already.

        Args:
            inputs: Modality -> (n, C, ...) in [0, 1], or (n, F); one that none has may be left out.
            present: Modality -> (n,) bool, of every modality.

        Returns:
            Task -> (n, K) probabilities as the network gives them, and modality -> (n, C) features by which foreign
            studies are told, NaN where it is absent.

        Raises:
            DataError: A modality is absent of which the network needs every one.
        """
        count = len(next(iter(present.values())))
        feed: dict[str, np.ndarray] = {}
        for name, spec in self.modalities.items():
            if not self.exported["absence"] and not present[name].all():
                raise DataError(f"has no {name}, which this model cannot do without", remedy=f"Give its {name}")
            empty = (count, spec.channels, *(spec.size or ()))
            feed[name] = np.asarray(inputs[name], np.float32) if name in inputs else np.zeros(empty, np.float32)
            if self.exported["absence"]:
                feed[f"present.{name}"] = present[name]
        named = dict(zip(self.exported["outputs"], self._session.run(self.exported["outputs"], feed), strict=True))
        features = {
            name.removeprefix("features."): values for name, values in named.items() if name.startswith("features.")
        }
        return {name: named[f"raw.{name}"] for name in self.tasks}, features

    def _answer(self, read: Read, draws: int | None) -> Answers:
        raw, features = self.predict_arrays(read.inputs, read.present)
        if self.foreign is None:
            return Answers(raw, {}, {})
        return Answers(raw, self.foreign.examine(read.inputs, read.present, features, read.odd), {})

    def _check_draws(self) -> None:
        raise ConfigError(
            "an exported model gives one answer to each study", remedy="Ask the run itself how unsure it is"
        )


def load(path: str | Path, device: str = "auto", *, raw: bool = False) -> StudyPredictor:
    """Load what predicts: an exported folder without torch, a run or a bundle with it.

    Args:
        path: The folder.
        device: As ``mailnet.bundle.load`` takes it; an exported model computes on ``cpu``.
        raw: As of ``RuntimePredictor``.

    Raises:
        ConfigError: A device for an exported model that is not the CPU.
        RunError: It is missing, damaged or written by a newer mailnet.
    """
    if (Path(path) / FACTS).is_file():
        if device not in ("auto", "cpu"):
            raise ConfigError(f"an exported model computes on the CPU, not on '{device}'", remedy="Use --device cpu")
        return RuntimePredictor(path, raw=raw)
    find_bundle(Path(path))  # torch is not looked for where there is no model
    from mailnet.bundle import load as load_bundle

    return load_bundle(path, device, raw=raw)


def _read_exported(folder: Path) -> dict[str, Any]:
    values = read_part(folder / FACTS, FORMAT)
    if values is None:
        raise RunError("holds no exported model", file=folder, remedy="Make one with 'mailnet export RUN'")
    keys = ("runtime", "file", "sha256", "noise", "absence", "outputs")
    if not isinstance(values, dict) or (lost := [key for key in keys if key not in values]):
        what = "is no object" if not isinstance(values, dict) else f"lacks '{lost[0]}'"
        raise RunError(what, file=folder / FACTS, remedy="Export the run again")
    if values["runtime"] != "onnx":
        raise RunError(
            f"holds a model for {values['runtime']}, not for onnxruntime",
            file=folder,
            remedy="Export the run with --format onnx",
        )
    return values


def _open(folder: Path, exported: Mapping[str, Any], threads: int) -> InferenceSession:
    import onnxruntime

    file = folder / Path(str(exported["file"])).name
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RunError(
            f"cannot be read ({error.strerror or error})", file=file, remedy="Export the run again"
        ) from error
    if hashlib.sha256(content).hexdigest() != exported["sha256"]:
        raise RunError("is not the file that was verified", file=file, remedy="Export the run again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception for each of its error codes, of no common base
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"cannot be opened ({reason})", file=file, remedy="Update onnxruntime, or export again"
        ) from error
