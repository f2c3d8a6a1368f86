"""Tasks over pretrained weights: heads of a few bits a value, learned over what `features` gives."""
