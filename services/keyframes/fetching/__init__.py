"""URL to local file."""
