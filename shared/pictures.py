"""How large the pictures are that are kept: for who makes them, and for pages that choose among them."""

from __future__ import annotations

#: The longest side of the small picture of a key frame, at most. Part of the recipe: a change makes other pictures.
SMALL_PICTURE_PX = 320
