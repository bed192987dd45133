"""Plans in the languages of other programs."""
