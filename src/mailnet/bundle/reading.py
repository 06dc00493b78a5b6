"""From the cells of studies to arrays as the network is given them, and what is odd about them on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mailnet.bundle.odd import Odd, odd_cells, odd_owners
from mailnet.bundle.requests import Requests
from mailnet.data.config import ModalityConfig, PixelConfig
from mailnet.data.preprocess import to_unit
from mailnet.data.table import TableState
from mailnet.errors import DataError, MailnetError
from mailnet.specs import ModalitySpec

if TYPE_CHECKING:
    from mailnet.data.dicom.owner import Owner


@dataclass(frozen=True)
class Read:
    """What became of some predictions' cells.

    Args:
        inputs: Modality -> (n, C, ...) in [0, 1] or (n, F) float32 of the n that could be read, zeros where it is
            absent; one that none has is left out.
        present: Modality -> (n,) bool, of every modality.
        kept: Their n numbers among the requests.
        errors: Of the others, one each.
        odd: Table -> n of what is odd about its cells.
        owners: n lists of what their DICOM headers contradict, in words.
    """

    inputs: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    kept: list[int]
    errors: list[MailnetError]
    odd: dict[str, list[Odd]]
    owners: list[list[str]] = field(default_factory=list)


@dataclass
class Reader:
    """Reads studies by the very preparation that training used.

    Args:
        modalities: The model's modalities, in its order.
        preprocessing: How each is prepared.
        tables: State of each table.
        pool: Threads that decode images.
    """

    modalities: Mapping[str, ModalitySpec]
    preprocessing: Mapping[str, ModalityConfig]
    tables: Mapping[str, TableState]
    pool: ThreadPoolExecutor
    _errors: dict[int, MailnetError] = field(default_factory=dict, init=False)

    def read(self, requests: Requests, rows: Sequence[int], without: Sequence[str] = ()) -> Read:
        """Return the requests ``rows``; those that cannot be read are left out.

        Args:
            requests: The studies.
            rows: Numbers of the predictions.
            without: Modalities to treat as absent.
        """
        self._errors = {}
        arrays: dict[str, list[np.ndarray | None]] = {}
        owners: list[dict[str, Owner]] = [{} for _ in rows]
        for name, section in self.preprocessing.items():
            if name in without:
                continue
            if isinstance(section, PixelConfig):
                results = list(self.pool.map(partial(_tried, requests, name, section), rows))
                arrays[name] = [self._noted(row, result) for row, (result, _) in zip(rows, results, strict=True)]
                for known, (_, owner) in zip(owners, results, strict=True):
                    if owner is not None:
                        known[name] = owner
            else:
                arrays[name] = list(self._table(requests, rows, name))
        for place, row in enumerate(rows):
            if row not in self._errors and all(several[place] is None for several in arrays.values()):
                remedy = "Give at least one of its modalities, or leave the study out with --skip-bad"
                self._errors[row] = DataError("has no modality at all", study=requests.ids[row], remedy=remedy)
        good = [place for place, row in enumerate(rows) if row not in self._errors]
        kept = [rows[place] for place in good]
        chosen = {name: [several[place] for place in good] for name, several in arrays.items()}
        odd = {
            name: odd_cells(state, requests.texts(kept, [column.name for column in state.categorical]), chosen[name])
            for name, state in self.tables.items()
            if name in chosen
        }
        errors = [self._errors[row] for row in sorted(self._errors)]
        return Read(*self._assembled(chosen), kept, errors, odd, [odd_owners(owners[place]) for place in good])

    def _noted(self, row: int, result: np.ndarray | MailnetError | None) -> np.ndarray | None:
        if isinstance(result, MailnetError):
            self._errors.setdefault(row, result)
            return None
        return result

    def _table(self, requests: Requests, rows: Sequence[int], name: str) -> Iterator[np.ndarray | None]:
        try:
            features, present = requests.table(rows, self.tables[name])
            yield from (row if has else None for row, has in zip(features, present, strict=True))
        except MailnetError:
            # One wrong cell refuses the whole frame; the other rows are still good.
            for row in rows:
                try:
                    features, present = requests.table([row], self.tables[name])
                    yield features[0] if present[0] else None
                except MailnetError as error:
                    self._errors.setdefault(row, error)
                    yield None

    def _assembled(
        self, arrays: Mapping[str, Sequence[np.ndarray | None]]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        count = len(next(iter(arrays.values())))
        inputs, present = {}, {}
        for name, spec in self.modalities.items():
            several = arrays.get(name, [None] * count)
            present[name] = np.array([array is not None for array in several], dtype=bool)
            if present[name].any():
                zeros = np.zeros((spec.channels, *(spec.size or ())), np.float32)
                inputs[name] = np.stack(
                    [zeros if a is None else to_unit(a) if a.dtype.kind == "u" else a for a in several]
                )
        return inputs, present


def _tried(
    requests: Requests, name: str, section: PixelConfig, row: int
) -> tuple[np.ndarray | MailnetError | None, Owner | None]:
    try:
        # In this order: the headers of a series, once read, are still at hand.
        image = requests.image(row, name, section)
        return image, None if image is None else requests.owner(row, name, section)
    except MailnetError as error:
        return error, None
