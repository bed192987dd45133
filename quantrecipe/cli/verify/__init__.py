"""quantrecipe verify: the command, and its checks as a table."""
