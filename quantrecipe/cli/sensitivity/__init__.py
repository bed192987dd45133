"""quantrecipe sensitivity: the command, its summary, its pictures and its report."""
