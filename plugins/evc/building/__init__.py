"""Model sources -> images: what is in a source, and its build on a builder node."""
