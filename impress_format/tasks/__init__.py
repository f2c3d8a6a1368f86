"""Tasks as they are stored: loose files, packs, and both as one store."""
