"""Containers that infer: run them, read their result lines once, say how well they performed."""
