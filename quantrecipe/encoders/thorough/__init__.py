"""A search for better scales: the encoder, the search, and the losses that it compares."""
