"""What a model takes where it runs: weights, KV cache and buffers, on the GPU and beside it. As llama.cpp has it."""
