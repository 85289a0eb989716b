"""File to frames: times, sizes, orientation, colours."""
