"""From files to probabilities, by the very preparation that training used."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from mailnet.bundle.asking import THREADS, Answers
from mailnet.bundle.draws import AVERAGED, calibrate_draws
from mailnet.bundle.model import LoadedModel
from mailnet.bundle.reading import Read
from mailnet.bundle.requests import Studies
from mailnet.bundle.store import read_bundle
from mailnet.errors import DataError
from mailnet.nn.batch import Batch

DRAWS = AVERAGED


class Predictor(LoadedModel):
    """A trained network with everything that it needs to read a study.

    A network that draws random numbers is put into the mode ``mean`` with a fixed seed and the same numbers for every
    study, so that a prediction repeats and does not depend on what else is predicted. ``noise`` says so: mode, draws
    and seed; it is None for other networks.

    Probabilities are calibrated where the bundle holds a calibration.

    Args:
        bundle: What ``read_bundle`` gave.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        raw: Give probabilities as the network does, without calibration, prediction sets and warnings of foreign
            studies.

    Raises:
        RunError: The device does not exist here.
    """

    def read(
        self, studies: Studies, ids: Sequence[str] = (), *, data_root: str | Path | None = None
    ) -> tuple[Batch, list[int]]:
        """Return studies as the network is given them, and their rows in the table, counted from 1.

        Args:
            studies: As of ``predict``.
            ids: Those of these identifiers alone, in this order; default all.
            data_root: As of ``predict``.

        Raises:
            DataError: A study cannot be read, has no modality, or is not there.
        """
        requests = self._gathered(studies, data_root)
        places = {name: row for row, name in enumerate(requests.ids)}
        if missing := [name for name in ids if name not in places]:
            raise DataError("is not among the studies", study=missing[0], remedy="Name it as the table does")
        rows = [places[name] for name in ids] or list(range(len(requests.ids)))
        with ThreadPoolExecutor(THREADS) as pool:
            read = self._reader(pool).read(requests, rows)
        if read.errors:
            raise read.errors[0]
        return _batch(read), [requests.rows[row] + 1 for row in rows]

    def _answer(self, read: Read, draws: int | None) -> Answers:
        batch = _batch(read)
        raw, foreign = self.predict_examined(batch, read.odd)
        drawn = {} if draws is None else self.passes.draw(batch, draws, 0)
        if self.reliability is not None:
            drawn = calibrate_draws(self.reliability, drawn)
        return Answers(raw, foreign, drawn)

    def _check_draws(self) -> None:
        _ = self.draw_source


def load(path: str | Path, device: str = "auto", *, raw: bool = False) -> Predictor:
    """Load the bundle of a run, or a bundle, as a ``Predictor``; with ``raw`` without its calibration.

    Raises:
        RunError: It is missing, damaged or written by a newer mailnet, or the device does not exist here.
    """
    return Predictor(read_bundle(path), device, raw=raw)


def _batch(read: Read) -> Batch:
    inputs, present = (
        {name: torch.from_numpy(values) for name, values in of.items()} for of in (read.inputs, read.present)
    )
    return Batch(inputs, present)
