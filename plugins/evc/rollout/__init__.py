"""Desired digests -> nodes: one node made to run one image, waves of them, and the fleet kept that way."""
