"""A bank as people use it from Python: images of their own, a task as an ordinary network, a Dataset of their own."""
