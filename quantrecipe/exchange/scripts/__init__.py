"""Scripts of shells, read as text and never run: which commands they have, with the values of their variables."""
