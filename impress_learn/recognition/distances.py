"""What distances from the signature of a task mean (pixel_signature.py): numbers that torch and NumPy share."""

from __future__ import annotations

import math

RANGE = 4.0
"""Deviations between tasks that the byte of a position spans to either side."""
SIGN_MEAN = math.sqrt(2 / math.pi)
"""Mean size of a standard normal variable: what its sign is worth."""
SIGN_SPREAD = 1 - 2 / math.pi
"""Its variance when the sign is known."""
DRIFT = 0.02
"""Distance that the mean of any number of images may lie from the signature, relative to the variance of single images:
other writers, other light. Chosen on held-out MNIST, as the next two (docs/trials.md, By signature)."""
SLACK = 0.15
"""How much further than a task's training images its other images may lie, of their mean squared distance."""
DEVIATIONS = 3.5
"""Deviations of squared distances beyond which images are of none of these tasks."""
MOST_WHOLE = 4096
"""Tasks that are all compared; of more a shortlist is made for each group of images."""
