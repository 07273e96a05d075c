"""The networks of the experiments, in Flax NNX, and their functional form."""
