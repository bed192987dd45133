"""quantrecipe fit: the command, and what it found as a table."""
