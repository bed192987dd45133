"""quantrecipe init: the command, and the recipe that it writes."""
