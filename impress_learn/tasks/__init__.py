"""Learning a task and storing it."""
