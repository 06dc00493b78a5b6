"""A run in TensorBoard: event files in its own folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import hparams

from mailnet.errors import RunError

MARK = "learning_rate"  # every epoch has it: where it is logged, the epoch is
FINISHED = ("best/epoch", "best/value", "best/loss")


class TensorBoard:
    """Event files of one run.

    Args:
        folder: Where they are; made if it does not exist.

    Raises:
        RunError: It cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
            self._tags = set(found.Tags()[SCALARS])
            self._logged = {event.step for event in found.Scalars(MARK)} if MARK in self._tags else set()
            self._writer = FileWriter(str(folder))
        except OSError as error:
            reason = error.strerror or error
            raise RunError(f"cannot be written ({reason})", file=folder, remedy="Choose another run folder") from error

    def logged(self) -> set[int]:
        """Return the epochs that the files hold."""
        return self._logged

    def describe(self, settings: Mapping[str, str | int | float | bool]) -> None:
        """Write the settings as hyperparameters, whose table joins them to the figures of the best epoch."""
        what, begun, self._ended = hparams(dict(settings), dict.fromkeys(FINISHED, 0.0))
        for summary in (what, begun):
            self._writer.add_summary(summary)
        self._writer.flush()

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Write an epoch as one record, which a kill leaves whole or not at all."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._writer.add_summary(Summary(value=values), global_step=epoch)
        self._writer.flush()

    def finish(self, best: Mapping[str, float]) -> None:
        """Write the best epoch and close the file."""
        if not self._tags & set(FINISHED):
            self.log(int(best["best/epoch"]), best)
            self._writer.add_summary(self._ended)
        self._writer.close()

    def stop(self, interrupted: bool) -> None:
        """Close the file."""
        self._writer.close()
