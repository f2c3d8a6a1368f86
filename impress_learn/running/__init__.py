"""A loaded bank, and what runs on it."""
