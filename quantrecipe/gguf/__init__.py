"""The GGUF container: metadata values, headers read and written."""
