"""Streams of tasks. `catalog` and `reference` need no torch; the rest makes the data."""
