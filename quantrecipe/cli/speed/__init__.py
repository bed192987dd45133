"""quantrecipe speed: the command, and how fast types and mixes run on this machine as a person reads it."""
