"""What figures and maps are made of, wherever they are shown: colours, and the map of a model's layers."""
