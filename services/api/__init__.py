"""HTTP: submit, poll, browse."""
