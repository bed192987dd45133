"""Options that several commands have, and what may stand behind them, each said once."""
