"""Rows and blobs to a file to take along."""
