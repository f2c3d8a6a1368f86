"""What heads and signatures read: features of a pretrained network, and their projection."""
