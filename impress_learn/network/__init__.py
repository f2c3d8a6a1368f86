"""The frozen network: built from its seed, timm's habits, the statistics of its norm layers."""
