"""quantrecipe check: the command, the recipes that it is about, and its findings as text."""
