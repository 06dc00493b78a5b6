"""Trials of settings, each a run of its own, chosen by Optuna from what earlier ones have given."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import mailnet
from mailnet.data.config import dump_config, load_config
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError, MailnetError, RunError
from mailnet.files import read_part, write_json, write_text
from mailnet.training.engine import train
from mailnet.training.tracking import local_store
from mailnet.training.tuning.space import Space, default_space

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

FORMAT = 1
FILE, JOURNAL, BEST = "tune.json", "trials.jsonl", "best.yaml"


def tune(
    study: str | Path,
    out: str | Path,
    *,
    space: Space | None = None,
    trials: int = 20,
    seconds: float | None = None,
    overrides: Sequence[str] = (),
    seed: int = 0,
    data_root: str | Path | None = None,
    skip_bad: bool = False,
    cache: str | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Search for settings that do best on the validation studies; given again after a stop, go on where it was.

    Every trial is a run in ``out/runs``, trained by the study's epochs and judged by what chooses its best epoch. The
    test studies are not looked at. The best of many trials looks better on the validation studies than it is.

    Args:
        study: The study.yaml.
        out: Folder of ``trials.jsonl`` (Optuna's journal), ``tune.json``, ``best.yaml`` and the runs.
        space: What is searched; default ``default_space`` without the keys that ``overrides`` settle.
        trials: As many in all, those of an earlier start among them.
        seconds: No trial begins after so many, from this start.
        overrides: As ``load_config`` takes them.
        seed: Of the search; that of training is the study's.
        data_root: Replaces the study's.
        skip_bad: Leave studies with unreadable images out.
        cache: Folder of decoded images.
        say: Called with a line a trial.

    Returns:
        What ``tune.json`` holds: ``metric``, ``best`` (a trial, None where none succeeded) and ``trials``, each with
        ``number``, ``settings``, ``value``, ``loss``, ``epoch``, ``seconds``, ``run`` and, where it failed, ``error``.

    Raises:
        ConfigError: A setting is wrong, Optuna is not installed, or the folder is of another search.
        DataError: The data cannot be used.
        RunError: The folder cannot be written or read, or no trial succeeded.
    """
    if trials < 1:
        raise ConfigError(f"trials must be at least 1, got {trials}", remedy="Usual is 20")
    folder = Path(out)
    config = load_config(study, overrides, data_root)
    if space is None:
        given = {override.partition("=")[0].strip() for override in overrides}
        chosen = {key: choice for key, choice in default_space(config).items() if key not in given}
    else:
        chosen = space
    metric = config.train.monitor
    asked = {
        "study": hashlib.sha256(dump_config(config).encode()).hexdigest()[:16],
        "space": {key: choice.model_dump() for key, choice in chosen.items()},
        "seed": seed,
    }
    _check_folder(folder, asked)
    with _quiet():
        search = _open(folder, "minimize" if metric == "loss" else "maximize", seed)
        data = load_study(config, cache=cache, skip_bad=skip_bad)
        write_json(folder / FILE, {"format": FORMAT, "mailnet": mailnet.__version__, **asked})
        _give_back(search)
        began = time.monotonic()
        while _ended(search) < trials and (seconds is None or time.monotonic() - began < seconds):
            trial = search.ask()
            settings = {key: choice.suggest(trial, key) for key, choice in chosen.items()}
            _run_trial(search, trial, settings, study, overrides, data_root, folder, data, say)
        result = {"format": FORMAT, "mailnet": mailnet.__version__, **asked, **_summary(search, metric)}
    write_json(folder / FILE, result)
    if result["best"] is None:
        reasons = sorted({trial["error"] for trial in result["trials"] if trial["error"]})
        raise RunError(
            f"no trial succeeded: {'; '.join(reasons)[:300] or 'no time was left for one'}",
            file=folder,
            remedy="Mend the study or the space",
        )
    write_text(folder / BEST, dump_config(load_config(study, _with(overrides, result["best"]["settings"]), data_root)))
    return result


def _run_trial(
    search: Study,
    trial: Trial,
    settings: Mapping[str, Any],
    study: str | Path,
    overrides: Sequence[str],
    data_root: str | Path | None,
    folder: Path,
    data: StudyData,
    say: Callable[[str], None],
) -> None:
    from optuna.trial import TrialState

    began = time.monotonic()
    # By its settings, so that a trial that was stopped finds its run again.
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    run = folder / "runs" / digest
    trial.set_user_attr("run", str(run.relative_to(folder)))
    try:
        own = load_config(study, _with(overrides, settings), data_root)
        if (
            "mlflow" in own.train.track and own.train.tracking_uri is None
        ):  # one database for all trials, in which they are compared
            update = {"tracking_uri": local_store(folder)}
            own = own.model_copy(update={"train": own.train.model_copy(update=update)})
        best = train(own, run, data=data, progress=False).best
        value = best["value"]
        if value is None:
            raise RunError(f"{best['monitor']} is not defined on the validation studies", file=run)
    except MailnetError as error:
        trial.set_user_attr("error", error.message)
        search.tell(trial, state=TrialState.FAIL)
        say(f"trial {trial.number + 1}: failed, {error.message}")
        return
    for key, found in (("epoch", best["epoch"]), ("loss", best["loss"]), ("seconds", time.monotonic() - began)):
        trial.set_user_attr(key, round(found, 4) if isinstance(found, float) else found)
    search.tell(trial, value)
    shown = {key.rpartition(".")[2]: f"{of:.4g}" if isinstance(of, float) else of for key, of in settings.items()}
    words = ", ".join(f"{key} {of}" for key, of in shown.items())
    say(f"trial {trial.number + 1}: {best['monitor']} {value:.4f} ({words}); best {search.best_value:.4f}")


def _with(overrides: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    return [*overrides, *(f"{key}={json.dumps(value)}" for key, value in settings.items())]


def _open(folder: Path, direction: Literal["minimize", "maximize"], seed: int) -> Study:
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError as error:
        raise ConfigError("the search needs Optuna", remedy="pip install 'mailnet[tune]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    earlier = 0 if not (folder / FILE).is_file() else len(storage.get_all_studies())
    study = optuna.create_study(storage=storage, study_name="mailnet", direction=direction, load_if_exists=True)
    # A search that goes on may not draw what it drew at its start.
    number = len(study.get_trials(deepcopy=False)) if earlier else 0
    study.sampler = optuna.samplers.TPESampler(seed=seed + 1000 * number, n_startup_trials=8)
    return study


def _give_back(search: Study) -> None:
    """Begin again what a stop left unfinished; training goes on from its checkpoint."""
    from optuna.trial import TrialState

    for trial in search.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        search.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            search.enqueue_trial(trial.params)


def _finished(search: Study) -> list[FrozenTrial]:
    """Trials that have a result or an error, and not those that a stop has cut off."""
    trials = search.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state.is_finished() and (trial.values or "error" in trial.user_attrs)]


def _ended(search: Study) -> int:
    return len(_finished(search))


def _summary(search: Study, metric: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for trial in _finished(search):
        known = trial.user_attrs
        rows.append({
            "number": len(rows) + 1, "settings": dict(trial.params), "value": trial.values[0] if trial.values else None,
            "loss": known.get("loss"), "epoch": known.get("epoch"), "seconds": known.get("seconds"),
            "run": known.get("run"), "error": known.get("error"),
        })  # fmt: skip
    good = [row for row in rows if row["value"] is not None]
    sign = -1 if metric == "loss" else 1
    best = max(good, key=lambda row: (sign * row["value"], -(row["loss"] or 0)), default=None)
    return {"metric": metric, "best": best, "trials": rows}


def _check_folder(folder: Path, asked: Mapping[str, Any]) -> None:
    known = read_part(folder / FILE, FORMAT)
    if known is not None and any(known.get(key) != value for key, value in asked.items()):
        raise ConfigError(
            "holds a search of another study, space or seed", file=folder, remedy="Choose another folder with --out"
        )
    if known is None and folder.is_dir() and any(folder.iterdir()):
        raise ConfigError("holds something else", file=folder, remedy="Choose another folder with --out")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's log lines away, which the user has not asked for."""
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("optuna")  # which sets its own level as it is imported
    logger = logging.getLogger("optuna")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
