"""Writes: every change that the API makes, one module a noun; state moves only through `shared.tasks`."""
