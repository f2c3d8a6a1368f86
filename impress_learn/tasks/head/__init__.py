"""Learning a head, and parts of the weights together with it."""
