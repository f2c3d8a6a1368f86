"""Masks: how they are trained, and the basis that they are together."""
