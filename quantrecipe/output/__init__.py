"""Plan → file, in one streaming pass."""
