"""Frames to shots and key frames."""
