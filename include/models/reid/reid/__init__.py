"""Finds people in frames, follows each, describes its looks, and prints what it saw: one JSON object a line."""
