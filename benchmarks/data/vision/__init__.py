"""NYUv2, Cityscapes, Office-31 and Office-Home: from the folders that users have to batches.

`prepare` checks a folder and writes it in TFDS's array_record format, `load` reads that back.
"""
