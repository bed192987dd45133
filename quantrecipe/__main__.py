"""`python -m quantrecipe`: the same as the `quantrecipe` script."""

import sys

from quantrecipe.cli import main

sys.exit(main())
