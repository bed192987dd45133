"""llama.cpp through ctypes: its libraries loaded, the functions that are used, its devices, and its log kept.

Only the worker's process calls this: loading a library runs code of it. llama.cpp logs to one callback of the process;
`captured_log` takes it while a model is open and gives it back after.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantrecipe.engine.libraries import Engine
from quantrecipe.engine.structs import (
    KNOWN,
    Batch,
    InitParameters,
    ModelFields,
    Override,
    Parameters,
    StructError,
    Tensor,
    callback_offset,
    check_batch,
    check_context,
    gpu_layers_offset,
    model_fields,
)
from quantrecipe.errors import EvaluationError

__all__ = ["VOCAB_TYPE_NONE", "Device", "Llama", "captured_log", "last_words", "remedy_of"]

_KEPT_LINES = 2000  # of the log: the reason of a failure is among the last
_WHO = re.compile(r"^\w+: (?:error loading model: )?")
_ERROR = 4  # ggml.h: GGML_LOG_LEVEL_ERROR
_CONTINUED = 5  # GGML_LOG_LEVEL_CONT

VOCAB_TYPE_NONE = 0  # llama.h: LLAMA_VOCAB_TYPE_NONE

_DEVICE_CPU = 0  # ggml-backend.h: GGML_BACKEND_DEVICE_TYPE_CPU

_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)

_ANY, _TEXT, _INT, _UINT, _BOOL, _SIZE = (
    *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_uint32, ctypes.c_bool, ctypes.c_size_t),
)
_INTS = ctypes.POINTER(ctypes.c_int32)
_SIZES = ctypes.POINTER(ctypes.c_size_t)

_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    # name: what it returns, and its parameters (llama.h)
    "llama_backend_init": (None,),
    "llama_log_set": (None, _LOG, _ANY),
    "llama_model_default_params": (Parameters,),
    "llama_context_default_params": (Parameters,),
    "llama_model_load_from_file": (_ANY, _TEXT, Parameters),
    "llama_model_free": (None, _ANY),
    "llama_model_get_vocab": (_ANY, _ANY),
    "llama_model_has_encoder": (_BOOL, _ANY),
    "llama_vocab_n_tokens": (_INT, _ANY),
    "llama_vocab_type": (ctypes.c_int, _ANY),
    "llama_vocab_get_text": (_TEXT, _ANY, _INT),
    "llama_vocab_get_add_bos": (_BOOL, _ANY),
    "llama_vocab_bos": (_INT, _ANY),
    "llama_tokenize": (_INT, _ANY, _TEXT, _INT, _INTS, _INT, _BOOL, _BOOL),
    "llama_init_from_model": (_ANY, _ANY, Parameters),
    "llama_free": (None, _ANY),
    "llama_set_n_threads": (None, _ANY, _INT, _INT),
    "llama_n_ctx": (_UINT, _ANY),
    "llama_n_batch": (_UINT, _ANY),
    "llama_n_ubatch": (_UINT, _ANY),
    "llama_n_seq_max": (_UINT, _ANY),
    "llama_batch_init": (Batch, _INT, _INT, _INT),
    "llama_batch_free": (None, Batch),
    "llama_decode": (_INT, _ANY, Batch),
    "llama_get_logits": (ctypes.POINTER(ctypes.c_float), _ANY),
    # ggml-backend.h
    "ggml_backend_dev_count": (_SIZE,),
    "ggml_backend_dev_get": (_ANY, _SIZE),
    "ggml_backend_dev_name": (_TEXT, _ANY),
    "ggml_backend_dev_description": (_TEXT, _ANY),
    "ggml_backend_dev_type": (ctypes.c_int, _ANY),
    "ggml_backend_dev_memory": (None, _ANY, _SIZES, _SIZES),
}

_SOMETIMES: dict[str, tuple[Any, ...]] = {
    # The memory of a context, formerly its KV cache, is emptied by the first of these that there is.
    "llama_memory_clear": (None, _ANY, _BOOL),
    "llama_get_memory": (_ANY, _ANY),
    "llama_kv_self_clear": (None, _ANY),  # spring of 2025
    "llama_kv_cache_clear": (None, _ANY),  # before
    "ggml_backend_load_all_from_path": (None, _TEXT),
    "llama_version": (_TEXT,),  # since 2026
    "llama_load_mode_name": (_TEXT, ctypes.c_int),  # since summer of 2026
    "llama_model_n_ctx_train": (_INT, _ANY),  # spring of 2025
    "llama_token_to_piece": (_INT, _ANY, _INT, _TEXT, _INT, _INT, _BOOL),
    "llama_vocab_is_eog": (_BOOL, _ANY, _INT),
    "ggml_version": (_TEXT,),  # since August 2025
    "ggml_commit": (_TEXT,),
}

_TENSOR = ctypes.POINTER(Tensor)

_GRAPH: dict[str, tuple[Any, ...]] = {
    # What models are looked into and changed with (ggml.h, ggml-backend.h); a model runs without.
    "ggml_init": (_ANY, InitParameters),
    "ggml_free": (None, _ANY),
    "ggml_op_name": (_TEXT, ctypes.c_int),
    "ggml_nbytes": (_SIZE, _TENSOR),
    "ggml_get_name": (_TEXT, _TENSOR),
    "ggml_get_data": (_ANY, _TENSOR),
    "ggml_set_name": (_TENSOR, _TENSOR, _TEXT),
    "ggml_new_tensor_3d": (_TENSOR, _ANY, ctypes.c_int, *3 * (ctypes.c_int64,)),
    "ggml_view_tensor": (_TENSOR, _ANY, _TENSOR),
    "ggml_mul_mat": (_TENSOR, _ANY, _TENSOR, _TENSOR),
    "ggml_backend_tensor_get": (None, _TENSOR, _ANY, _SIZE, _SIZE),
    "ggml_backend_tensor_set": (None, _TENSOR, _ANY, _SIZE, _SIZE),
    "ggml_backend_buffer_name": (_TEXT, _ANY),
    "ggml_backend_buffer_is_host": (_BOOL, _ANY),
}

_CLEARING = ("llama_memory_clear", "llama_kv_self_clear", "llama_kv_cache_clear")

_GGML = ("ggml", "ggml-base")

_LIBRARY = re.compile(r"[\w.+-]+\.(?:so(?:\.\d+)*|dylib|dll)\b")
_BUILD = re.compile(r"\.0\.0\.(\d{4,})")  # releases: libllama.so.0.0.6500, libllama.0.0.6500.dylib

_ELF_MACHINES = {
    0x3E: "x86_64",
    0xB7: "aarch64",
    0xF3: "riscv64",
    0x15: "ppc64le",
    0x16: "s390x",
}  # elf.h: EM_…

_REMEDIES = (
    # What the loader of the system says, and what to do.
    (r"libgomp", "install GCC's OpenMP runtime (libgomp1 on Debian and Ubuntu, libgomp on Fedora)"),
    (r"libomp", "install LLVM's OpenMP runtime (brew install libomp)"),
    (r"libcudart|libcublas|libcuda\b|libnccl", "install the CUDA runtime of that version, or take a build for the CPU"),
    (r"libvulkan", "install the Vulkan loader (libvulkan1 on Debian and Ubuntu), or take a build for the CPU"),
    (r"GLIBC|libstdc\+\+|CXXABI", "it was built for a newer system: build it here, or take a build for an older one"),
    (r"ELF|mach-o|WinError 193|file too short|invalid", "it is no library for this system: take a build for it"),
    # Last, since the others may say by which library of ggml something is needed.
    (r"(?:lib)?ggml[\w-]*\.(?:\d+\.)*(?:so|dylib|dll)", "keep the folder whole: what it needs is to stand beside it"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What llama.cpp computes on, as ggml names it. Memory in bytes, 0 where it isn't told."""

    name: str
    description: str
    total: int
    free: int
    is_cpu: bool


class Llama:
    """The functions of llama.cpp, by name. `gpu_layers` and `context`: where the parameters' fields are.

    EvaluationError where a library can't be loaded, lacks functions, or has structs that aren't known.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._libraries = _load(engine)
        missing = [name for name, types in _FUNCTIONS.items() if not self._bind(name, types)]
        there = {name for name, types in (_SOMETIMES | _GRAPH).items() if self._bind(name, types)}
        clearing = next((name for name in _CLEARING if name in there), None)
        if missing or clearing is None:
            raise EvaluationError(
                f"it lacks functions of llama.cpp: {', '.join(missing or _CLEARING[:1])}",
                f"known are {KNOWN}; programs that left it before, such as ik_llama.cpp, have other functions",
                file=engine.library,
            )
        self._clearing, self._there = clearing, there
        self.version = self._version()
        self.gpu_layers, self.context = self._checked()

    def __getattr__(self, name: str) -> Any:  # what `_bind` didn't find
        raise AttributeError(f"llama.cpp's {name} isn't bound")

    def has(self, name: str) -> bool:
        """True if the library has a function that some versions lack."""
        return name in self._there

    def require_graph(self) -> None:
        """EvaluationError where the library lacks what a model is looked into and changed with."""
        if missing := [name for name in _GRAPH if name not in self._there]:
            raise EvaluationError(
                f"this llama.cpp ({self.version}) can't be looked into: it lacks {', '.join(missing)}",
                f"known are {KNOWN}",
                file=self.engine.library,
            )

    def set_callback(self, parameters: Parameters, callback: object) -> None:
        """Write cb_eval, which the caller keeps alive. EvaluationError where it is in no known place."""
        try:
            offset = callback_offset(bytes(self.llama_context_default_params()))
        except StructError as error:
            raise self.unknown(error) from error
        parameters.set_pointer(offset, callback)

    def make_writable(self, parameters: Parameters) -> None:
        """Have weights loaded into memory of their own, and not rearranged. EvaluationError if it can't be said."""
        fields = self._model_fields()
        if fields.load_mode is not None:
            parameters.set(fields.load_mode, 0)  # llama.h: LLAMA_LOAD_MODE_NONE
        for flag in (fields.use_mmap, fields.use_extra_bufts):
            if flag is not None:
                parameters.set_byte(flag, 0)

    def set_overrides(self, parameters: Parameters, numbers: Mapping[str, int]) -> object:
        """Have the model's metadata say something else: what is to be kept alive until the model is loaded."""
        overrides = (Override * (len(numbers) + 1))()
        for override, (key, number) in zip(overrides, numbers.items(), strict=False):
            override.key, override.number = key.encode(), number
        parameters.set_pointer(self._model_fields().kv_overrides, overrides)
        return overrides

    def _model_fields(self) -> ModelFields:
        try:
            return model_fields(
                bytes(self.llama_model_default_params()),
                self.gpu_layers,
                load_mode=self.has("llama_load_mode_name"),
            )
        except StructError as error:
            raise self.unknown(error) from error

    def load_backends(self) -> None:
        """Load the backends that aren't part of the libraries, as in releases; those of the CPU among them."""
        if not self.ggml_backend_dev_count() and "ggml_backend_load_all_from_path" in self._there:
            self.ggml_backend_load_all_from_path(os.fsencode(self.engine.folder))
            if not self.ggml_backend_dev_count():
                # ggml may know of another folder, where it was installed. It looks into the current one, too.
                with chdir(self.engine.folder):
                    self.ggml_backend_load_all_from_path(None)
        if not any(device.is_cpu for device in self.devices()):
            raise EvaluationError(
                "llama.cpp finds no backend for the CPU",
                "libggml-cpu is to stand beside libllama, as in a release or a build",
                file=self.engine.folder,
            )

    def devices(self) -> list[Device]:
        """List everything that the engine can compute on."""
        found = []
        for number in range(self.ggml_backend_dev_count()):
            device = self.ggml_backend_dev_get(number)
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            self.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
            found.append(
                Device(
                    name=_plain(self.ggml_backend_dev_name(device)),
                    description=_plain(self.ggml_backend_dev_description(device)),
                    total=total.value,
                    free=free.value,
                    is_cpu=self.ggml_backend_dev_type(device) == _DEVICE_CPU,
                )
            )
        return found

    def refused(self) -> list[str]:
        """Backends that stand beside the library and can't be loaded: why, as the system says it, and what to do."""
        found = []
        names = [device.name.lower() for device in self.devices()]
        for path in sorted(self.engine.folder.glob("*ggml-*")):
            kind = re.fullmatch(r"(?:lib)?ggml-([a-z]+)\.(?:so|dylib|dll)", path.name)
            # A library of the CPU is chosen among several, and may be for another one.
            if kind is None or kind[1] in ("base", "cpu") or any(name.startswith(kind[1]) for name in names):
                continue
            try:
                ctypes.CDLL(str(path))
            except OSError as error:
                said = str(error).removeprefix(f"{path}: ")
                found.append(f"{path.name}: {said}; {remedy_of(said)}".removesuffix("; "))
        return found

    def clear(self, context: Any) -> None:
        """Empty the memory of a context, so that the next chunk starts from nothing."""
        if self._clearing == "llama_memory_clear":
            self.llama_memory_clear(self.llama_get_memory(context), True)
        else:
            getattr(self, self._clearing)(context)

    def batch(self, size: int) -> Batch:
        """Make a batch for `size` tokens, each of which belongs to one sequence."""
        batch: Batch = self.llama_batch_init(size, 0, 1)
        try:
            check_batch(batch, size)
        except StructError as error:
            raise self.unknown(error) from error
        return batch

    def unknown_context(self, name: str, value: int, wanted: int) -> EvaluationError:
        """What to say of a context that got something else than it was to get."""
        return self.unknown(StructError(f"a context has {name} {value}, and was to get {wanted}"))

    def _bind(self, name: str, types: tuple[Any, ...]) -> bool:
        for library in self._libraries:
            try:
                function = getattr(library, name)
            except AttributeError:
                continue
            function.restype, *function.argtypes = types
            self.__dict__[name] = function
            return True
        return False

    def _checked(self) -> tuple[int, dict[str, int]]:
        try:
            return (
                gpu_layers_offset(bytes(self.llama_model_default_params())),
                check_context(bytes(self.llama_context_default_params())),
            )
        except StructError as error:
            raise self.unknown(error) from error

    def unknown(self, error: StructError) -> EvaluationError:
        """What to say of a struct that isn't as it was expected."""
        return EvaluationError(
            f"this llama.cpp ({self.version}) has other structs than those that are known: {error}",
            f"known are {KNOWN}: use one of these, or a newer quantrecipe",
            file=self.engine.library,
        )

    def _version(self) -> str:
        """What it says of itself: its own version or build, and ggml's."""
        said = [_plain(self.llama_version())] if "llama_version" in self._there else []
        if not said and (build := _BUILD.search(self.engine.library.resolve().name)):
            said.append(f"b{build[1]}")
        if "ggml_version" in self._there:
            said.append(f"ggml {_plain(self.ggml_version())}")
        if "ggml_commit" in self._there and (commit := _plain(self.ggml_commit())) != "unknown":
            said.append(f"commit {commit}")
        return ", ".join(said) or "before August 2025"


@contextmanager
def captured_log(llama: Llama, tell: Callable[[str], object] | None) -> Iterator[deque[tuple[int, str]]]:
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

    callback = _LOG(keep)
    llama.llama_log_set(callback, None)
    try:
        yield lines
    finally:
        llama.llama_log_set(_LOG(), None)  # NULL: to stderr, as from the beginning


def last_words(log: Sequence[tuple[int, str]]) -> str:
    """What llama.cpp gave as its reason: the first line of its errors, without who says it; "" if there is none."""
    errors = [line.strip() for level, line in log if level == _ERROR and line.strip()]
    return _WHO.sub("", errors[0]) if errors else ""


def _load(engine: Engine) -> list[ctypes.CDLL]:
    """Where functions are looked for. That of libllama finds those of the libraries that it is linked with, too."""
    if sys.platform != "win32":
        for path in _ggml_beside(engine):
            with suppress(OSError):  # said again, and then told, where libllama or a device needs it
                ctypes.CDLL(str(path))
        return [_with_needed(engine.library, engine, {})]
    # Windows looks into each library alone, and for what one needs in its folder and in those that are added.
    toolkits = (os.environ.get(name) for name in ("CUDA_PATH", "HIP_PATH"))
    for place in (engine.folder, *(Path(root) / "bin" for root in toolkits if root)):
        if place.is_dir():
            os.add_dll_directory(str(place))
    beside = (engine.library.with_name(engine.library.name.replace("llama", name)) for name in _GGML)
    return [_with_needed(path, engine, {}) for path in (engine.library, *beside) if path.is_file()]


def _ggml_beside(engine: Engine) -> list[Path]:
    """ggml's libraries in the folder, those first that others need.

    Loaded before libllama, they are those that it gets: a build remembers the folder in which it was made, and a copy
    of it would take what is there today. Of several libraries for the CPU ggml itself chooses one.
    """
    kind = re.compile(r"libggml(?:-([a-z0-9]+))?\.(?:so|dylib)")
    paths = sorted(engine.folder.glob("libggml*"))
    found = [(match[1], path) for path in paths if (match := kind.fullmatch(path.name)) is not None]
    order = {"base": 0, None: 2}  # libggml itself is linked with the backends, and those with libggml-base
    return [path for _, path in sorted(found, key=lambda it: order.get(it[0], 1))]


def _with_needed(library: Path, engine: Engine, loaded: dict[Path, ctypes.CDLL]) -> ctypes.CDLL:
    """A library, loaded. What it needs and the system doesn't find, such as libggml after a folder was moved, is taken
    from beside it; the system knows that by its name from then on."""
    while True:
        try:
            loaded[library] = ctypes.CDLL(str(library))
            return loaded[library]
        except OSError as error:
            needed = [engine.folder / name for name in _LIBRARY.findall(str(error))]
            new = next(
                (path for path in needed if path != library and path not in loaded and path.is_file()), None
            )
            if new is None:
                raise _unloadable(library, engine, error) from error
            _with_needed(new, engine, loaded)


def _unloadable(library: Path, engine: Engine, error: OSError) -> EvaluationError:
    said = str(error).removeprefix(f"{library}: ")
    if other := _other_processor(library):
        said = f"it is for another processor, {other}"  # glibc says that there is no such file
    return EvaluationError(f"can't be loaded: {said}", remedy_of(said) or engine.rebuild, file=library)


def remedy_of(said: str) -> str:
    """What to do where the system's loader says this of a library; "" where that isn't known."""
    return next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, said)), "")


def _other_processor(library: Path) -> str:
    """The processor that an ELF library is for, where that isn't this one; "" where it is, or isn't known."""
    try:
        with library.open("rb") as file:
            head = file.read(20)
    except OSError:  # the loader has said why
        return ""
    if head[:4] != b"\x7fELF":
        return ""
    name = _ELF_MACHINES.get(int.from_bytes(head[18:20], sys.byteorder), "")
    here = platform.machine().lower().replace("amd64", "x86_64")
    return name if here in _ELF_MACHINES.values() and name != here else ""


def _plain(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", "replace")
