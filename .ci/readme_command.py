"""Print a command of the README, so that CI runs what newcomers run: the code block after `<!-- NAME -->`."""

import re
import sys
from pathlib import Path

text = Path("README.md").read_text(encoding="utf-8")
block = re.search(rf"<!-- {re.escape(sys.argv[1])} -->\s*```sh\n(.*?)```", text, re.DOTALL)
if block is None:
    raise SystemExit(f"README.md has no sh block after <!-- {sys.argv[1]} -->")
sys.stdout.write(block[1])
