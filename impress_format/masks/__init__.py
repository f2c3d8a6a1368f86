"""Masks as they are stored: the values of their ones, their file."""
