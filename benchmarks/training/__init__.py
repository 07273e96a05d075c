"""Training a network by a method: one loop for all of them."""
