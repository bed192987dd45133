"""The recipe language: YAML becomes a Recipe."""
