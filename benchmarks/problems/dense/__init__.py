"""NYUv2 and Cityscapes: segmentation, depth and, for NYUv2, surface normals of every pixel."""
