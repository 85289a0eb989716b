"""Ways out of this machine: which addresses may be reached, and connections to those alone."""
