"""One file per architecture: what makes a Hugging Face model of it a GGUF."""
