"""quantrecipe store: what is in a store of encoded tensors, whether it is sound, and how it is kept small."""
