"""Which task images are of: signatures, what makes them, and what compares images with them. Below the loaded bank."""
