"""Classification metrics as functions on arrays, each with a bootstrap interval where asked."""

from mailnet.metrics.measure import known_studies, measure, summary

__all__ = ["known_studies", "measure", "summary"]
