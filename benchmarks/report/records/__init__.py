"""What the files of a folder of results say."""
