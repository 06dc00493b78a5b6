"""Training: from a configuration to a run folder with a bundle, resumable at any moment."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator

from mailnet.data.config import SPLITS, StudyConfig
from mailnet.data.dataset import StudyDataset
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError, DataError, RunError
from mailnet.nn.layers import channels_last
from mailnet.nn.noise import get_noise
from mailnet.nn.registry import create_model
from mailnet.training.defense import Defense, create_defense
from mailnet.training.device import create_accelerator, own_random_numbers, seed_of, training_bytes
from mailnet.training.distill import Distillation
from mailnet.training.hiding import hide_modalities
from mailnet.training.plan import Rows, check_division, epoch_steps, hidden_share
from mailnet.training.pretrain import Pretraining
from mailnet.training.progress import Progress
from mailnet.training.run import TrainResult, begin_run, open_run, processes_before
from mailnet.training.together import Together
from mailnet.training.tracking import Tracking, require_trackers, run_facts
from mailnet.training.trainer import Trainer
from mailnet.training.user_transform import Augment, check_same_augment, described

PROBE = 4  # studies of the forward pass that shows whether the network can do what is asked, and its memory


def train(
    config: StudyConfig,
    out: str | Path,
    *,
    resume: bool = True,
    cache: str | Path | None = None,
    skip_bad: bool = False,
    progress: bool = True,
    data: StudyData | None = None,
    augment: Augment | None = None,
) -> TrainResult:
    """Train a network and write a run folder; given again after a stop, go on where it was.

    Args:
        config: The study.
        out: Run folder. It will hold ``study.yaml``, ``data.json``, ``run.json``, ``metrics.jsonl`` and ``bundle/``,
            and ``checkpoint/`` until the run is finished; with ``train.pretrain`` also ``pretraining.json``, with
            ``train.track`` what is tracked.
        resume: Whether a run that the folder holds is continued (or returned, where it is finished).
        cache: Folder of decoded images.
        skip_bad: Leave studies with unreadable images out.
        progress: Whether to report on stderr.
        data: The study where it is loaded already.
        augment: Changes the images of a study in training, a dict modality -> tensor, in place of the modalities'
            ``augment``: a MONAI transform of dicts, see ``augment_studies``. To go on with a run, give it again.

    Raises:
        ConfigError: The network or the machine cannot do what is asked.
        DataError: The data cannot be used, or a split has no study.
        RunError: The folder holds another run, cannot be written, training diverged, or another process of it ended.
    """
    run = Path(out)
    finished = open_run(run, config, resume)
    if finished is not None:
        return finished
    require_trackers(config.train.track)
    check_same_augment(run, augment)
    accelerator = create_accelerator(config.train)
    together = Together(accelerator)
    try:
        accelerator.wait_for_everyone()  # none may write before all have looked at the folder
        if data is None:
            with together.in_turn():
                data = load_study(config, cache=cache, skip_bad=skip_bad)
        _check_labelled(data)
        with own_random_numbers():
            return _train(config, run, data, accelerator, together, progress, augment)
    except torch.OutOfMemoryError as error:
        remedy = f"Set train.accumulate={2 * config.train.accumulate}, or a smaller train.batch_size"
        raise RunError(f"memory ran out ({str(error).splitlines()[0]})", file=run, remedy=remedy) from error
    except RuntimeError as error:
        if not together.has_lost_one(error):
            raise
        remedy = "It may have said why. Give the same command again, for all processes: it goes on from the checkpoint"
        raise RunError("another process of this training has ended", file=run, remedy=remedy) from error


def _check_labelled(data: StudyData) -> None:
    """Refuse a study without anything to learn from, or to choose the best epoch by."""
    for split in SPLITS[:2]:
        if not len(data.rows(split)):
            raise DataError(f"the split '{split}' has no study", remedy="Give it studies, see 'split' in study.yaml")
    for split, purpose in (("train", "learn from"), ("val", "choose the best epoch by")):
        if not any((labels[data.rows(split)] >= 0).any() for labels in data.labels.values()):  # NaN >= 0 is False
            raise DataError(
                f"no study of the split '{split}' has a label, so there is nothing to {purpose}",
                remedy="Label some of its studies",
            )


def _train(
    config: StudyConfig,
    run: Path,
    data: StudyData,
    accelerator: Accelerator,
    together: Together,
    progress: bool,
    augment: Augment | None,
) -> TrainResult:
    steps = epoch_steps(data, config.train, 0)
    check_division(steps, config.train, accelerator.num_processes)
    torch.manual_seed(seed_of(config.train.seed, "weights"))
    network = channels_last(_create_network(config, data).to(accelerator.device))
    defense: Defense | None = create_defense(config, network)
    if config.train.distill is not None:
        defense = Distillation(config.train.distill, data, accelerator.device)
    bytes_needed = _probe(network, config, data, steps, accelerator, 1 if defense is None else defense.passes)
    pretraining = None if config.train.pretrain is None else Pretraining(config, data, network, accelerator)
    noise = get_noise(network)
    record = {
        "device": "cpu" if accelerator.device.type == "cpu" else str(accelerator.device),
        "precision": "bf16" if accelerator.mixed_precision == "bf16" else "fp32",
        "processes": accelerator.num_processes,
        "torch": str(torch.__version__),
        "noise": None if noise is None else noise.mode,  # of training and of its validation metrics
        "defense": None if config.train.defense is None else config.train.defense.model_dump(exclude_none=True),
        **({} if config.train.distill is None else {"distill": config.train.distill.model_dump()}),
        **({} if augment is None else {"augment": described(augment)}),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
    before = processes_before(run)
    accelerator.wait_for_everyone()  # all have seen how the run began
    if accelerator.is_main_process:
        begin_run(run, config, data, record)
    accelerator.wait_for_everyone()
    report = Progress(config.train.epochs, progress and accelerator.is_main_process)
    report.say(
        f"{len(data.rows('train'))} training, {len(data.rows('val'))} validation and {len(data.rows('test'))} test "
        f"studies; {config.model.name} with {record['parameters'] / 1e6:.2f} million parameters"
        f"{'' if config.train.defense is None else f', defence {config.train.defense.name}'}; {record['device']}, "
        f"{record['precision']}, {record['processes']} process(es); about {bytes_needed / 2**30:.1f} GiB of memory "
        "for each"
    )
    if data.bad_rows:
        report.say(
            f"{len(set(data.bad_rows))} studies that cannot be read or have no modality were left out, see 'bad' in "
            f"{run / 'data.json'}"
        )
    if before not in (None, accelerator.num_processes):
        report.say(
            f"This run began with {before} process(es) and goes on with {accelerator.num_processes}: it will not end "
            "as it would have, since each process has chance and batch statistics of its own"
        )
    try:
        if pretraining is not None:
            pretraining.run(run, report)
        trackers = config.train.track if accelerator.is_main_process else ()
        with Tracking(trackers, run, config, run_facts(data, record), report) as tracking:
            return Trainer(
                config, run, data, network, accelerator, together, report, record, tracking, defense, augment
            ).run_all()
    finally:
        report.close()


def _create_network(config: StudyConfig, data: StudyData) -> torch.nn.Module:
    try:
        return create_model(config.model.name, data.modalities, data.tasks, **config.model.options)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"the network '{config.model.name}' cannot be made: {error}", remedy="Mend 'model' in study.yaml"
        ) from error


def _probe(
    network: torch.nn.Module,
    config: StudyConfig,
    data: StudyData,
    steps: list[Rows],
    accelerator: Accelerator,
    passes: int,
) -> int:
    """Make a forward pass as training and prediction will; return the bytes of memory that training takes."""
    dataset = StudyDataset(data)
    batch = dataset.batch(steps[0][:PROBE])
    parts = accelerator.num_processes if config.train.shard else 1
    size = -(-len(steps[0]) // (accelerator.num_processes * config.train.accumulate))
    hides = hidden_share(config.train, config.regime) > 0 or config.regime == "unpaired"
    alone = hide_modalities(batch, 1.0, torch.Generator().manual_seed(0)) if hides else batch
    try:
        network.eval()
        with torch.inference_mode():
            network(alone.to(accelerator.device).inputs, alone.to(accelerator.device).present)
        network.train()
        return training_bytes(network, batch.to(accelerator.device), size * passes, config.train.ema is not None, parts)
    except ValueError as error:
        raise ConfigError(
            f"the network '{config.model.name}' cannot be trained on these studies: {error}",
            remedy="Choose another model.name, or set train.modality_dropout=0 where every study has every modality",
        ) from error
