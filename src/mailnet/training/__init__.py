"""Training: a run folder, with a bundle in it, from a configuration."""
