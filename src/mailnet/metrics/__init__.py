"""Classification metrics as functions on arrays, each with a bootstrap interval where asked."""

from mailnet.metrics.measure import measure, summary

__all__ = ["measure", "summary"]
