"""Tasks over pretrained weights: features, their projection, and heads of a few bits a value."""
