"""Numbers that say how good probabilities are: functions on arrays, each number with a bootstrap interval."""

from mailnet.metrics.curves import Curve, Reliability, precision_recall_curve, reliability, roc_curve
from mailnet.metrics.estimates import summary, task_metrics
from mailnet.metrics.known import known_labels

__all__ = [
    "Curve",
    "Reliability",
    "known_labels",
    "precision_recall_curve",
    "reliability",
    "roc_curve",
    "summary",
    "task_metrics",
]
