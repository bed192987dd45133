"""Options that several commands have, and the kinds of values that stand behind them, each said once.

paths    files and folders, RECIPE and MODEL     amounts  sizes, tokens, numbers
shared   options in the same words everywhere    limits   how large the result may be, and where it runs
target   the engine that a mix is chosen for
"""
