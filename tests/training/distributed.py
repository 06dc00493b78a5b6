"""What each of several processes runs, started by torchrun: ``distributed.py STUDY CACHE BUNDLE OUT``."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from small_study import same_in_parts
from torch import nn

from mailnet.bundle import load
from mailnet.data.config import load_config, parse_config
from mailnet.data.dataset import StudyDataset
from mailnet.data.study import StudyData, load_study
from mailnet.training import TrainResult, train
from mailnet.training.pretrain import Pretraining
from mailnet.training.progress import Progress
from mailnet.training.trainer import Trainer
from mailnet.training.validate import predict_rows, validation_metrics

# One of each way in which a defence passes the network and asks for gradients.
DEFENSES = {
    "trades": {"name": "trades", "steps": 1, "awp": 0.01, "validation_steps": 1},
    "fast": {"name": "fast", "alignment": 0.2, "validation_steps": 1},
    "free": {"name": "free", "replays": 2, "validation_steps": 1},
}


def evaluate(bundle: Path, data: StudyData, accelerator: Accelerator) -> dict[str, Any]:
    """Metrics of a bundle on a number of validation studies that two processes cannot share evenly."""
    rows = data.rows("val")[:11]
    model = load(bundle, device="cpu").model
    predicted = predict_rows(model, StudyDataset(data), rows, accelerator, batch_size=4, seed=0)
    labels = {task: values[rows] for task, values in data.labels.items()}
    return validation_metrics(predicted, labels, data.tasks)


def _digest(network: nn.Module) -> str:
    tensors = b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())
    return hashlib.sha256(tensors).hexdigest()


def main(study: Path, cache: Path, bundle: Path, out: Path) -> None:
    """Evaluate a bundle and train two runs, on all processes; the first writes ``out/found.json``."""
    accelerator = Accelerator(cpu=True)
    config = load_config(study)
    data = load_study(config, cache=cache)
    metrics = evaluate(bundle, data, accelerator)
    digests: list[str] = []
    run_all = Trainer.run_all

    def run_and_compare(trainer: Trainer) -> TrainResult:
        result = run_all(trainer)
        digests.extend(gather_object([_digest(trainer.network)]))
        return result

    learnt: list[str] = []
    learn = Pretraining.run

    def learn_and_compare(pretraining: Pretraining, run: Path, progress: Progress) -> None:
        learn(pretraining, run, progress)
        learnt.extend(gather_object([_digest(pretraining.network)]))

    Pretraining.run = learn_and_compare  # type: ignore[method-assign]
    Trainer.run_all = run_and_compare  # type: ignore[method-assign]
    tracked = config.model_copy(update={"train": config.train.model_copy(update={"track": ("tensorboard",)})})
    result = train(tracked, out / "run", data=data, progress=False)
    plain = len(digests)
    for name, defense in DEFENSES.items():
        values = config.model_dump(mode="json")
        values["train"] |= {"defense": defense, "pretrain": None, "epochs": 1}
        train(parse_config(values), out / name, data=data, progress=False)
    defended = digests[plain:]
    table = same_in_parts(config, data, balance="weights")
    history = train(table.config, out / "table", data=table, progress=False).history
    if accelerator.is_main_process:
        found = {
            "processes": accelerator.num_processes,
            "metrics": metrics,
            "learnt": learnt,
            "digests": digests[:plain],
            "defended": defended,
            "best": result.best,
            "history": history,
        }
        (out / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
