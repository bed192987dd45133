"""Pictures: figures as files, and heat maps."""
