"""One file per clustering algorithm; the module's name is the algorithm's name."""
