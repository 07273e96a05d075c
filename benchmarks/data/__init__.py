"""The data sets on which the networks are trained and tested."""
