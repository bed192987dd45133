"""quantrecipe advise: the command, and the table of what fits where."""
