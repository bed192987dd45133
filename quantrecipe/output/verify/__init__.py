"""A file that was made, held against what it says of itself, and against what it was made from."""
