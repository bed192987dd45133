"""quantrecipe imatrix: its subcommands, and what they share."""
