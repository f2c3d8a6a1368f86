"""What ImpressLearn (arXiv 2210.01987) shows, remade from one command; only jobs are called."""
