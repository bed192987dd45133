"""Every code has its section in the documentation, and every one that is used is a code."""

import re
from pathlib import Path

from quantrecipe.lint import CODES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/check.md").read_text(encoding="utf-8")


def test_every_code_is_documented_with_its_severity() -> None:
    documented = dict(re.findall(r"^### (QR[0-9]{3}) \((error|warning|advice)\)", PAGE, re.MULTILINE))
    assert documented == {code.code: code.severity for code in CODES.values()}


def test_every_code_in_use_is_one_and_every_one_is_in_use() -> None:
    package = ROOT / "quantrecipe"
    sources = [path for path in package.rglob("*.py") if path.name != "codes.py"]
    sources.append(package / "lint/floors.toml")
    used = {
        code for path in sources for code in re.findall(r'"(QR[0-9]{3})"', path.read_text(encoding="utf-8"))
    }
    assert used | {"QR001"} == set(CODES)
