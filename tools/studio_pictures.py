"""Pictures of the studio, for the documentation: opens its page in a real Chromium, and uses it as a person would.

    python tools/studio_pictures.py docs/images

It needs the extras `studio`, `browser` and `plots` (for Pillow), and a Chromium: Debian's, or the one that
$QUANTRECIPE_CHROMIUM names.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

MODEL = "shapes/qwen3-30b-a3b"
WIDTH, HEIGHT = 1280, 900
PATIENCE = 120_000  # milliseconds


@contextmanager
def studio() -> Iterator[str]:
    """The address of a studio that runs until the end."""
    command = [sys.executable, "-u", "-m", "quantrecipe", "studio", MODEL, "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if (match := re.search(r"http://\S+", line)) is not None:
                    yield match[0]
                    return
            sys.exit("the studio didn't start")
        finally:
            process.terminate()


def settled(page: Any) -> None:
    """Wait until the text gives the mix that is shown."""
    page.locator("#text-is").filter(has_text="gives this mix").wait_for()
    page.wait_for_load_state("networkidle")


def wide(page: Any) -> None:
    """A mix that is somewhat smaller than Q4_K_M."""
    slider = page.get_by_role("slider")
    for _ in range(25):
        slider.press("ArrowLeft")
    settled(page)
    slider.blur()


def completing(page: Any) -> None:
    """A text that somebody has changed, and what may stand in the next rule."""
    select = """(it, after) => {
      it.focus();
      const start = it.value.indexOf("type: ", it.value.indexOf(after)) + 6;
      it.setSelectionRange(start, it.value.indexOf("\\n", start));
    }"""
    page.locator("#text").evaluate(select, "attn_output")
    page.keyboard.insert_text("Q5_K")
    page.locator("#text-is").filter(has_text="changed by hand").wait_for()
    page.locator("#text").evaluate(select, "attn_{k,v}")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")  # behind the first letter
    page.keyboard.press("Control+Space")
    page.locator("#proposals").wait_for()
    page.wait_for_load_state("networkidle")


def save(screenshot: bytes, path: Path) -> None:
    """Write a picture of few colours, which has a third of the bytes."""
    Image.open(io.BytesIO(screenshot)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


PICTURES = {"studio-wide": ("light", wide), "studio-dark": ("dark", completing)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    path = os.environ.get("QUANTRECIPE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with studio() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, (scheme, use) in PICTURES.items():
            context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.goto(address)
            settled(page)
            use(page)
            save(page.screenshot(), args.folder / f"{name}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
