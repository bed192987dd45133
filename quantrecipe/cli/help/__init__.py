"""quantrecipe help: the command, and the pages of the documentation."""
