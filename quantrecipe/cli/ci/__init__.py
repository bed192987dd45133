"""quantrecipe ci: the command, the recipes that a change is about, and the comment on it."""
