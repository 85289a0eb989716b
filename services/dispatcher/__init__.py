"""Sends what is due, takes back what was lost: the only publisher."""
