"""The commands of `reelmap`, a module per group."""
