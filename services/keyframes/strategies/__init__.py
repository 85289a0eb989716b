"""One file per key-frame strategy; the module's name is the strategy's name."""
