"""Classification metrics as functions on arrays, each with a bootstrap interval where asked, and their curves."""

from mailnet.metrics.curves import precision_recall_curve, reliability, roc_curve
from mailnet.metrics.measure import measure, redraws, summary, weighted_metric

__all__ = ["measure", "precision_recall_curve", "redraws", "reliability", "roc_curve", "summary", "weighted_metric"]
