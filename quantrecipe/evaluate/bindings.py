"""llama.cpp by the low-level bindings of llama-cpp-python: found or missed with a clear word, and its log kept.

llama.cpp logs to one callback of the process; `captured_log` takes it while a model is open and gives it back after.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from quantrecipe.errors import EvaluationError

__all__ = ["captured_log", "last_words", "load_bindings", "require_engine"]

_MISSING = "models are run by llama.cpp, through llama-cpp-python, which isn't installed"
_INSTALL = "pip install 'quantrecipe[llama]'"
_KEPT_LINES = 2000
_WHO = re.compile(r"^\w+: (?:error loading model: )?")
_ERROR = 4  # ggml.h: GGML_LOG_LEVEL_ERROR
_CONTINUED = 5  # GGML_LOG_LEVEL_CONT


def require_engine() -> None:
    """EvaluationError where models can't be run here, told before any work that ends in running them.

    Nothing is loaded: what llama.cpp does when it is loaded stays in the worker's process.
    """
    if importlib.util.find_spec("llama_cpp") is None:
        raise EvaluationError(_MISSING, _INSTALL)


def load_bindings() -> Any:
    """The module llama_cpp. EvaluationError where it isn't installed or can't be loaded."""
    try:
        return importlib.import_module("llama_cpp")
    except ModuleNotFoundError as error:
        raise EvaluationError(_MISSING, _INSTALL) from error
    except (OSError, RuntimeError, ImportError) as error:
        raise EvaluationError(
            f"llama-cpp-python is installed and can't be loaded ({error})",
            "pip install --force-reinstall --no-cache-dir 'llama-cpp-python>=0.3.36'",
        ) from error


@contextmanager
def captured_log(llama: Any, tell: Callable[[str], object] | None) -> Iterator[deque[tuple[int, str]]]:
    """llama.cpp's log as (level, line), while the context lasts; the newest lines, if there are very many.

    `tell` hears of every piece of it at once, so that it isn't lost with the process.
    """
    lines: deque[tuple[int, str]] = deque(maxlen=_KEPT_LINES)

    def keep(level: int, text: bytes, data: object) -> None:
        part = text.decode("utf-8", "replace")
        if tell is not None:
            tell(part)
        if level == _CONTINUED and lines:
            last, line = lines.pop()
            lines.append((last, line + part))
        else:
            lines.append((level, part))

    callback = llama.llama_log_callback(keep)
    llama.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        yield lines
    finally:
        from llama_cpp import _logger

        llama.llama_log_set(_logger.llama_log_callback, ctypes.c_void_p(0))


def last_words(log: Sequence[tuple[int, str]]) -> str:
    """What llama.cpp gave as its reason: the first line of its errors, without who says it; "" if there is none."""
    errors = [line.strip() for level, line in log if level == _ERROR and line.strip()]
    return _WHO.sub("", errors[0]) if errors else ""
