"""Tables and plots, made from a folder of results alone."""
