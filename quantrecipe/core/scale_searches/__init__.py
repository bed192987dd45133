"""The best scale for a group of weights: ggml's make_*_quants, for many groups side by side."""
