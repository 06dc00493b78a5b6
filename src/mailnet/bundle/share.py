"""Which part of a work that is divided belongs to one of several processes."""

from __future__ import annotations

from dataclasses import dataclass

from mailnet.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """The parts of one of several processes: those whose number leaves ``index`` when divided by ``count``.

    Processes need not know of each other, so they may run on machines that share nothing but a folder.

    Raises:
        ValueError: An index that is not below the count.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"a share is I/N with I from 0 to N - 1, got {self.index}/{self.count}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def __contains__(self, number: int) -> bool:
        return number % self.count == self.index


def parse_share(text: str) -> Share:
    """Return the share that ``I/N`` means.

    >>> parse_share("1/4")
    Share(index=1, count=4)

    Raises:
        ConfigError: It means none.
    """
    try:
        index, count = map(int, text.split("/"))
        return Share(index, count)
    except ValueError:
        raise ConfigError(
            f"the share '{text}' is not I/N with I from 0 to N - 1", remedy="The first of four processes is 0/4"
        ) from None
