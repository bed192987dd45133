"""Super-blocks of 256 weights in groups, whose scales are quantized in turn: what the K-quants share."""
