"""The batches of an attack, of which each of several processes may take a share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mailnet.bundle.share import Share
from mailnet.data.progress import progress
from mailnet.data.study import StudyData
from mailnet.robustness.attack.batch import Attacker, attack_batch
from mailnet.robustness.attack.state import State
from mailnet.robustness.attack.studies import read_batch
from mailnet.robustness.kept import Removed


@dataclass(frozen=True)
class Shared:
    """What a process that attacked its share leaves to say; the card is for the command without a share.

    Args:
        share: Which.
        suites: Names of the suites that attack.
        studies: Studies in the batches of this share.
        batches: Batches of all studies.
        there: Those that are done, by whomever.
        made: Those that this process did.
        card: The result card, where another command has written it.
    """

    share: Share
    suites: Sequence[str]
    studies: int
    batches: int
    there: int
    made: int
    card: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON: ``ready`` says that nothing is left to be attacked before the card is written."""
        return {
            "share": str(self.share),
            "suites": list(self.suites),
            "studies": self.studies,
            "batches": self.batches,
            "there": self.there,
            "made": self.made,
            "ready": self.there == self.batches,
            "card": None if self.card is None else str(self.card),
        }


def own_batches(batches: Sequence[np.ndarray], share: Share | None) -> list[int]:
    """Return the numbers of the batches that are a share's, all without one."""
    return [number for number in range(len(batches)) if share is None or number in share]


def describe_start(what: str, state: State, batches: Sequence[np.ndarray], share: Share | None) -> str:
    """Return how far the measurement is when a process begins, empty where nothing is known of it."""
    own = own_batches(batches, share)
    done = sum(map(state.is_done, own))
    if share is not None:
        return f"Share {share}: {what}; {done} of its {len(own)} batches are done"
    if not state.resumed:
        return ""
    rest = "" if done == len(own) else ", the others are attacked now"
    return f"Going on with the measurement that was begun: {what}; {done} of {len(own)} batches are done{rest}"


def attack_batches(
    attacker: Attacker,
    data: StudyData,
    batches: Sequence[np.ndarray],
    state: State,
    device: torch.device,
    share: Share | None = None,
) -> Iterator[tuple[dict[str, Tensor], bool]]:
    """Attack batch after batch, and read those that are done.

    Args:
        attacker: What attacks.
        data: The studies.
        batches: Positions of the studies of each batch.
        state: What is done.
        device: Of the network.
        share: Of this process; None for all batches.

    Yields:
        What was found of a batch, as ``attack_batch`` gives it, and whether it was attacked now.

    Raises:
        Removed: Another process has ended the measurement, where the state is a guest's.
    """
    own = own_batches(batches, share)
    work = sum(sum(cell.works(attacker.tasks)) for cell in attacker.cells)  # of one study
    with progress("Attacking studies", work * sum(len(batches[number]) for number in own), share=True) as advance:
        for number in own:
            found = state.batch(number)
            if known := found is not None:
                advance(work * len(batches[number]), before=True)
            else:
                found = attack_batch(attacker, number, read_batch(data, batches[number], device), state, advance)
                state.finish(number, found)
            yield found, not known


def attack_share(
    attacker: Attacker,
    data: StudyData,
    batches: Sequence[np.ndarray],
    state: State,
    device: torch.device,
    share: Share,
    suites: Sequence[str],
    written: Callable[[], Path | None],
) -> Shared:
    """Attack the batches of a share, as long as no other process has written the card.

    Args:
        attacker: What attacks.
        data: The studies.
        batches: Positions of the studies of each batch.
        state: What is done, of a guest.
        device: Of the network.
        share: Which.
        suites: Names of the suites that attack.
        written: Gives the card of this measurement, where it is there.

    Raises:
        Removed: The state was removed, and no card is there.
    """
    made = 0
    try:
        for _, now in attack_batches(attacker, data, batches, state, device, share):
            made += now
    except Removed:
        if written() is None:
            raise
    there, card = sum(map(state.is_done, range(len(batches)))), written()
    if card is not None:  # what was kept is gone
        there = len(batches)
    return Shared(share, suites, studies_of(batches, share), len(batches), there, made, card)


def studies_of(batches: Sequence[np.ndarray], share: Share) -> int:
    """Return how many studies are in the batches of a share."""
    return sum(len(batches[number]) for number in own_batches(batches, share))
