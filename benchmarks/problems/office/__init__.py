"""Office-31 and Office-Home: each domain is a classification task with its own images."""
