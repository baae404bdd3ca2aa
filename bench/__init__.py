"""Figures of EVC beside their floors and peers, measured in one run on one machine: ``python -m bench``."""
