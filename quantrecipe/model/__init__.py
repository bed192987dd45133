"""Model files: safetensors, Hugging Face folders and GGUF become a Model."""
