"""Importance matrices: how much each input of each tensor matters, as llama-imatrix measured it."""
