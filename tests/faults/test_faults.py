"""`run.py` works: a few of its moments. `.ci/run` tries more of them, and prints how many."""

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


def test_nothing_is_lost_and_nothing_wrong_has_a_name() -> None:
    command = [
        sys.executable,
        str(RUN),
        "--moments",
        "1",
        "--seed",
        "11",
        "--fault",
        "kill",
        "--fault",
        "flip",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^(\d+) moments tried in \d+ s: 0 wrong$", done.stdout, re.MULTILINE)
    assert found is not None
    scenes = re.findall(r"^(\w+): \d+ calls; \d+ moments: \d+ kill, 1 flip$", done.stdout, re.MULTILINE)
    assert {"plain", "executor", "sensitivity", "fit", "grams"} <= {*scenes}
    assert int(found[1]) >= 2 * len(scenes)
    assert "Traceback" not in done.stderr
