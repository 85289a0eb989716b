"""What `reelmap doctor` looks at: each check has a name, what it needs, and a function that says what it found."""
