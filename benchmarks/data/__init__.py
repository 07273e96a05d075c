"""Sets of images: NYUv2, Cityscapes, Office-31 and Office-Home, prepared and read.

`prepare` checks a folder of images and writes them in the array_record format of TensorFlow
Datasets (TFDS); `load` reads this format.
"""
