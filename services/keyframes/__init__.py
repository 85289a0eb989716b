"""Video to key frames."""
