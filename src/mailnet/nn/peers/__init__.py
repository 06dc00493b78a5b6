"""Networks of other authors, for comparison."""
