"""Benchmarks: every network on every study under one protocol, one JSON a cell, tables from the JSONs alone."""

from mailnet.benchmark.grid import Outcome, run_suite
from mailnet.benchmark.suite import Suite, load_suite

__all__ = ["Outcome", "Suite", "load_suite", "run_suite"]
