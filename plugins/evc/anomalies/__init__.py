"""Nodes that behave unlike themselves or unlike their group. Pure: arrays in, findings out."""
