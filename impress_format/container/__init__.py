"""The sealed file: its header, its JSON, its records."""
