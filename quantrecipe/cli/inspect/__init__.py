"""quantrecipe inspect: the command, and the contents of a file as tables."""
