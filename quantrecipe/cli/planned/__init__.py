"""What the commands that plan have in common: their options, their inputs, and plans as a person reads them."""
