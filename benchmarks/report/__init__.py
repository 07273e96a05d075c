"""Reports: tables and plots, made only from folders of results."""
