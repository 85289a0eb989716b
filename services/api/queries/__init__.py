"""Reads: every SELECT of the API and its pages, one module a noun; each function takes an open transaction."""
