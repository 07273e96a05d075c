"""The experiments of the paper: data sets, models, training and reports."""
