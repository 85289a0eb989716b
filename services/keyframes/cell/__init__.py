"""The confined process in which hostile files are read."""
