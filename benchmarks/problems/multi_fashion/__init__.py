"""Multi-Fashion: two garments in one image, each to be classified."""
