"""From types and rules to the text of a recipe: new ones, flat ones, and the digest of what they mean."""
