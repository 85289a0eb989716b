"""Everything on one machine: embedded servers and all processes, one command."""
