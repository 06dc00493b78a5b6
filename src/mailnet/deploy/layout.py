"""What an exported folder consists of: a bundle whose weights are a graph."""

from __future__ import annotations

FORMAT = 1
FACTS = "export.json"
# Of the bundle, what reads studies and answers; the weights are in the graph.
COPIED = ("config.json", "calibration.json", "foreign.json", "foreign.safetensors", "README.md")
