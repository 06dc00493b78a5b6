"""The methods, one family a file; ``mailnet.explain.registry`` knows them by name."""
