"""Quantization kernels: arrays in, arrays out. Knows nothing of files, recipes or plugins."""
