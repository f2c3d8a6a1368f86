"""How anything is trained: its settings, and the one loop."""
