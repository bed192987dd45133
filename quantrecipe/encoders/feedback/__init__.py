"""Error feedback: the factor of the inputs, rounding in order, and descent."""
