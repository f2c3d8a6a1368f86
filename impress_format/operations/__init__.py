"""What is done with a whole bank."""
