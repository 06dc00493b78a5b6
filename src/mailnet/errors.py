"""One kind of error for everything that a user can mend."""

from __future__ import annotations

from pathlib import Path


class MailnetError(Exception):
    """Something that the user can mend: says what, where, and what to do.

    The command line prints it without a traceback and exits with status 2.

    Args:
        message: What is wrong, with the values seen.
        remedy: What the user should do about it.
        study: Identifier of the study (its ``id`` column, or ``row N``).
        modality: Name of the modality.
        task: Name of the task.
        file: The file concerned; a member of a zip as ``set.zip!member``.

    >>> print(MailnetError("the file does not exist", study="row 3", modality="ct", file="a.png", remedy="Restore it"))
    study row 3, modality ct, file a.png: the file does not exist. Restore it.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        study: str | None = None,
        modality: str | None = None,
        task: str | None = None,
        file: str | Path | None = None,
    ) -> None:
        self.message = message
        self.remedy = remedy
        self.study = study
        self.modality = modality
        self.task = task
        self.file = None if file is None else str(file)
        super().__init__(str(self))

    def __str__(self) -> str:
        where = [("study", self.study), ("modality", self.modality), ("task", self.task), ("file", self.file)]
        place = ", ".join(f"{label} {value}" for label, value in where if value is not None)
        text = f"{place}: {self.message}" if place else self.message
        if not self.remedy:
            return text
        remedy = self.remedy.rstrip(".")
        return f"{text.rstrip('.')}. {remedy}" + ("" if remedy.endswith("?") else ".")

    def as_dict(self) -> dict[str, str]:
        """Return the set fields, for JSON output."""
        keys = ("message", "remedy", "study", "modality", "task", "file")
        return {key: value for key in keys if (value := getattr(self, key)) is not None}


class ConfigError(MailnetError):
    """A study.yaml, an override or an option that cannot be used."""


class DataError(MailnetError):
    """A manifest, a file or a value in the data that cannot be used."""


class RunError(MailnetError):
    """A run or bundle folder that cannot be read or written."""
