"""From YAML to what one file says, and from files that extend each other to one recipe."""
