"""quantrecipe doctor: the command and its checks."""
