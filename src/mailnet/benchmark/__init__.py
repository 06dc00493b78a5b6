"""Benchmarks: every network on every study under one protocol, one JSON a cell, tables from the JSONs alone."""

from mailnet.benchmark.cost import update_costs
from mailnet.benchmark.grid import GridResult, run_suite
from mailnet.benchmark.suite import Suite, load_suite
from mailnet.benchmark.tables import write_tables

__all__ = ["GridResult", "Suite", "load_suite", "run_suite", "update_costs", "write_tables"]
