"""Nodes, inventory, sweeps' timing: what EVC decides, without doing any I/O."""
