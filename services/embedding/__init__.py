"""Key frames to vectors."""
