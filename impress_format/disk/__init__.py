"""Files, locks and regular files: what touches the disk."""
