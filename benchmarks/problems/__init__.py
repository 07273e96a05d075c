"""Learning problems: data sets with their tasks and networks, for the training loop."""
