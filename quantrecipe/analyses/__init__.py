"""Sensitivity analyses, one per file."""
