"""Weights as points of a grid, eight or four at a time: what the IQ1, IQ2 and IQ3 formats are made of."""
