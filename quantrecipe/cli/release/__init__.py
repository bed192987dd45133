"""quantrecipe release: the files of a model, made, measured and described, in one folder."""
