"""Command lines of llama-quantize and lists of types, llama.cpp's and other programs', as recipes."""
