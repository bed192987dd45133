"""Models without some of their layers: the tensors that are left, and what the metadata says of them."""
