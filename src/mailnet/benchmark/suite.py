"""``suite.yaml``: which networks meet on which studies, under which budget and tuning; unknown keys are errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from mailnet.benchmark.attack_entry import AttackEntry
from mailnet.data.config import Section, StudyConfig, load_config
from mailnet.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
TUNABLE = ("train.", "model.")
Metric = Literal["balanced_accuracy", "macro_f1", "macro_auroc"]


class StudyEntry(Section):
    """A study: its ``study.yaml``, relative to the suite's file, and overrides by dotted key."""

    study: str
    set: dict[str, Any] = {}


class NetworkEntry(Section):
    """A network: a name of the registry with options, or ``columns: boosting`` on the study's table alone.

    ``set`` overrides keys of ``train`` and ``model``; ``trials`` replaces those of the suite's tuning, as many;
    ``studies`` names the only studies that it meets, ``skip`` those that it does not.
    """

    name: str | None = None
    columns: Literal["boosting"] | None = None
    options: dict[str, Any] = {}
    set: dict[str, Any] = {}
    trials: list[dict[str, Any]] | None = None
    studies: list[str] | None = None
    skip: list[str] = []

    @model_validator(mode="after")
    def _one_of_both(self) -> NetworkEntry:
        if (self.name is None) == (self.columns is None):
            raise ValueError("give either 'name', a network, or 'columns', a model of the table alone")
        if self.columns is None:
            for values in (self.set, *(self.trials or [])):
                _require_tunable(values)
        return self

    def meets(self, study: str) -> bool:
        """Whether the network is wanted on a study."""
        return study not in self.skip and (self.studies is None or study in self.studies)


class Budget(Section):
    """How long a network trains: ``epochs`` (default each study's own), at most so many seconds, or just ``seconds``.

    Seconds are of training without validation; a short timed pass turns them into epochs, once for all seeds.
    """

    epochs: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, gt=0)
    at_most_seconds: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_kind(self) -> Budget:
        if self.seconds is not None and (self.epochs is not None or self.at_most_seconds is not None):
            raise ValueError("'seconds' stands alone; for both limits give 'epochs' and 'at_most_seconds'")
        return self


class Tuning(Section):
    """Overrides that are tried for every network, on one seed with a share of the budget; validation decides."""

    trials: list[dict[str, Any]] = Field(min_length=1)
    seed: int = 0
    share: float = Field(0.5, gt=0, le=1)

    @field_validator("trials")
    @classmethod
    def _only_training(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for trial in value:
            _require_tunable(trial)
        return value


class Suite(Section):
    """The whole ``suite.yaml``; ``study`` of each study is absolute once it is loaded.

    ``groups`` names sets of studies over which networks are also ranked by themselves.
    """

    name: str
    description: str = ""
    studies: dict[str, StudyEntry] = Field(min_length=1)
    networks: dict[str, NetworkEntry] = Field(min_length=1)
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    budget: Budget = Budget()
    tuning: Tuning | None = None
    attacks: dict[str, AttackEntry] = {}
    set: dict[str, Any] = {}
    metric: Metric = "balanced_accuracy"
    groups: dict[str, list[str]] = {}
    bootstrap: int = Field(500, ge=0)
    latency: bool = True
    threads: int = Field(1, ge=1)
    reference: str | None = None
    baseline: str | None = None

    @field_validator("studies", "networks", "attacks")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not NAME.fullmatch(name):
                raise ValueError(f"'{name}' is not a name: use letters, digits, '_', '-' and '.'")
        return value

    @model_validator(mode="after")
    def _known_names(self) -> Suite:
        for key in ("reference", "baseline"):
            if (name := getattr(self, key)) is not None and name not in self.networks:
                raise ValueError(f"'{key}' names {name}, which is no network of the suite")
        for name, network in self.networks.items():
            if unknown := {*(network.studies or []), *network.skip} - set(self.studies):
                raise ValueError(f"network {name} names {min(unknown)}, which is no study of the suite")
        for name, attack in self.attacks.items():
            for noun, wanted, known in (
                ("network", attack.networks, self.networks),
                ("study", attack.studies, self.studies),
            ):
                if unknown := set(wanted or []) - set(known):
                    raise ValueError(f"attack {name} names {min(unknown)}, which is no {noun} of the suite")
        for name, studies in self.groups.items():
            if unknown := set(studies) - set(self.studies):
                raise ValueError(f"group {name} names {min(unknown)}, which is no study of the suite")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice")
        return self

    @model_validator(mode="after")
    def _as_many_trials(self) -> Suite:
        wanted = 0 if self.tuning is None else len(self.tuning.trials)
        for name, network in self.networks.items():
            own = network.trials
            if own is not None and len(own) != wanted:
                raise ValueError(f"network {name} has {len(own)} trials where 'tuning' has {wanted}: all get as many")
            if network.columns is not None and own is None and wanted > 1:
                raise ValueError(f"network {name} needs {wanted} 'trials' of its own, options of the boosting")
        return self

    def trials(self, network: str) -> list[dict[str, Any]]:
        """Return the overrides that are tried for a network; empty without tuning."""
        entry = self.networks[network]
        if entry.trials is not None:
            return entry.trials
        # Those of the suite are keys of train and model, which say nothing to a model of the table.
        return [] if self.tuning is None or entry.columns is not None else self.tuning.trials

    def attacks_on(self, study: str, network: str) -> dict[str, AttackEntry]:
        """Return the attacks that a network trained on a study meets; none for a model of the table."""
        if self.networks[network].columns is not None:
            return {}
        return {name: entry for name, entry in self.attacks.items() if entry.meets(study, network)}


def load_suite(path: str | Path) -> Suite:
    """Read a ``suite.yaml``.

    Raises:
        ConfigError: The file is missing or not YAML, or keys or values are wrong; all problems are listed together.
    """
    file = Path(path)
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", file=file, remedy="Give the path of a suite") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"is not valid YAML ({error})", file=file, remedy="Mend the place named") from error
    try:
        suite = Suite.model_validate(values)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors(include_url=False)]
        raise ConfigError("; ".join(problems), file=file, remedy="Mend the keys named") from None
    here = file.resolve().parent
    studies = {
        name: entry.model_copy(update={"study": str(here / entry.study)}) for name, entry in suite.studies.items()
    }
    return suite.model_copy(update={"studies": studies})


def cell_config(
    suite: Suite, study: str, network: str, *changes: Mapping[str, Any], data_root: str | Path | None = None
) -> StudyConfig:
    """Return the configuration under which a network meets a study.

    Later overrides replace earlier ones: the study's file, ``set`` of the suite, of the study, the network with its
    options, ``set`` of the network, ``changes``.

    Args:
        suite: The suite.
        study: Name of the study.
        network: Name of the network.
        changes: Further overrides by dotted key, as of a trial.
        data_root: Where the study's paths start, in place of what its file says.

    Raises:
        ConfigError: The study's file or an override is wrong.
    """
    entry, chosen = suite.studies[study], suite.networks[network]
    # The table's model has options of its own, which are no keys of a study.
    model: dict[str, Any] = {} if chosen.name is None else {"model": {"name": chosen.name, "options": chosen.options}}
    several = (suite.set, entry.set, model, chosen.set, {"evaluation.bootstrap": suite.bootstrap}, *changes)
    return load_config(entry.study, _overrides(several), data_root)


def _overrides(several: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{key}={yaml.safe_dump(value, default_flow_style=True, width=2**30)}"
        for values in several
        for key, value in values.items()
    ]


def _require_tunable(values: Mapping[str, Any]) -> None:
    for key in values:
        if not key.startswith(TUNABLE):
            raise ValueError(f"'{key}' is not a key of train or model: the data are the same for every network")


def _explain(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"'{where}' is not a key"
    if problem["type"] == "missing":
        return f"'{where}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"'{where}': {message}" if where else message
