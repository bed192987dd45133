"""quantrecipe eval: the command, its reference and its candidates, their figures, limits and picture."""
