"""A bounded number of the moments that `run.py` tries: killed, cut off, and on file systems that fail."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc"),
]


@pytest.mark.parametrize("scene", ["plain", "store", "shards", "replaced", "several"])
def test_nothing_is_lost_and_nothing_wrong_has_a_name(scene: str) -> None:
    command = [sys.executable, str(RUN), "--moments", "6", "--scene", scene, "--seed", "11"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    print(done.stdout)  # noqa: T201  # how many moments were tried
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^(\d+) moments tried in \d+ s: 0 wrong$", done.stdout, re.MULTILINE)
    assert found is not None
    assert int(found[1]) >= 48
    assert "Traceback" not in done.stderr
