"""Probes x sessions -> store: one sweep of many nodes, and the run of sweeps that a task does."""
