"""Evaluation of runs: one run in full, or the mean and spread of several."""

from mailnet.evaluation.compare import compare
from mailnet.evaluation.evaluate import evaluate

__all__ = ["compare", "evaluate"]
