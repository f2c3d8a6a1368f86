"""The parts that a task's file is made of: one file a part, and a table of them all (docs/format.md, Tasks)."""
