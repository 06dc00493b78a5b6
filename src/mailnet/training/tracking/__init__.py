"""The epochs of a training in TensorBoard and MLflow, beside the run's own ``metrics.jsonl``."""

from mailnet.training.tracking.mlflow import local_store
from mailnet.training.tracking.tracking import Tracking, require_trackers, run_facts

__all__ = ["Tracking", "local_store", "require_trackers", "run_facts"]
