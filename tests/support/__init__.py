"""What several tests need: small models, made on the spot."""
