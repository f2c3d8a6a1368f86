"""Streams of tasks. `stream`, `table` and `reference` need no torch; the rest makes the data."""
