"""Data sets with what is to be learnt from them, as the training loop takes them."""
