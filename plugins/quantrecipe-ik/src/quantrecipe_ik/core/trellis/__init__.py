"""The trellis types: points that a generator makes, and the long search for them."""
