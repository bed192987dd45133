"""quantrecipe diff: the command, what it compares, and the comparison in the terminal and in Markdown."""
