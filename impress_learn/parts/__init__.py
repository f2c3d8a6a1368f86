"""The parts of a task as they are asked for, begun, laid over the network and stored: one file a part, and a table."""
