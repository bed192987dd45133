"""4-bit floats and their scales: what MXFP4 and NVFP4 are made of."""
