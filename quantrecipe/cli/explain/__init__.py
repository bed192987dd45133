"""quantrecipe explain: the command, and the story that it tells of a tensor."""
