"""Robustness measured: how many draws an attack must average, and what smoothing can promise."""
