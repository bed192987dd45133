"""Recipes from elsewhere, and for elsewhere: model files, llama-quantize, ik_llama.cpp, GGUF-Tool-Suite."""
