"""One file per embedding model; the module's name is the model's name."""
