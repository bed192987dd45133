"""llama.cpp's graph, seen while it is computed: the inputs of matrices, and where weights lie.

llama.cpp calls back for every node: first it asks whether the node is wanted, and computes on if it isn't; then it
shows the node, computed, with its inputs. A wanted product of a matrix (MUL_MAT, and MUL_MAT_ID for experts) shows its
weight by name, what it is multiplied with, and which expert each token goes to.

ggml's struct of a tensor is read for that. It is held against ggml's own functions first (`Ggml`), so that another
layout is an error before anything is believed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from quantrecipe.engine.structs import InitParameters, StructError, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.engine.bindings import Llama

__all__ = ["Callback", "Ggml", "Product", "Watch", "Weight"]

_F32, _F16 = 0, 1  # ggml.h: GGML_TYPE_F32, GGML_TYPE_F16
_OPS = 60  # ggml has more: asked for a number beyond, it would read memory that is none of its names
_TRIED_MEMORY = 1 << 16  # bytes, for a few small tensors

_POINTER = ctypes.POINTER(Tensor)
_EVAL = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """A tensor of the model, where llama.cpp has it.

    shape:   as ggml has it, the length of a row first; without ones at the end
    buffer:  llama.cpp's name for the memory that it lies in
    others:  addresses of the same weight on other devices: an embedding that is the head, too, may be on two
    passing: only a copy was seen that is made anew for each batch, for another device; the weight itself isn't known
    """

    name: str
    ggml_type: int
    shape: tuple[int, ...]
    nbytes: int
    buffer: str
    address: int
    others: tuple[int, ...] = ()
    passing: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """A matrix, multiplied with its inputs; or an embedding, whose rows are looked up.

    weight:  name of the matrix
    shape:   of it, as ggml has it: columns first, then rows, and how many matrices there are (heads, or experts)
    values: what it is multiplied with; of a lookup, what comes out of it
    key:     products of one graph whose keys are equal have the same inputs, for the same matrices
    root:    address of the tensor that the inputs are, before it was reshaped: equal for a router and its experts
    """

    weight: str
    shape: tuple[int, int, int, int]
    kind: Literal["product", "by expert", "lookup"]
    key: tuple[int | None, ...]
    root: int
    values: Tensor
    experts: Tensor | None
    ggml: Ggml

    @property
    def matrices(self) -> int:
        """How many matrices there are."""
        return self.shape[2] * self.shape[3]

    @property
    def used(self) -> int:
        """Of experts, how many each token goes to."""
        return 1 if self.experts is None else int(self.experts.ne[0])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of the inputs, as ggml has it: columns first."""
        return tuple(self.values.ne)

    @property
    def is_float32(self) -> bool:
        """True if the inputs are float32, as they nearly always are."""
        return bool(self.values.type == _F32)

    def inputs(self) -> NDArray[np.float32]:
        """float32, four axes, ggml's in reverse: (…, tokens, columns), by expert (1, tokens, slots, columns).

        Valid until the node is left.
        """
        return self.ggml.array(self.values, np.float32)

    def chosen(self) -> NDArray[np.int32]:
        """int32 (tokens, used): the experts that each token goes to."""
        if self.experts is None:
            raise ValueError(f"{self.weight} isn't by expert")
        chosen: NDArray[np.int32] = self.ggml.array(self.experts, np.int32)[0, 0]
        return chosen


class Watch(Protocol):
    """What looks at products."""

    def wants(self, product: Product) -> bool:
        """Say whether this one is to be seen; asked before it is computed."""

    def see(self, product: Product) -> bool:
        """Look at one that was computed. False if nothing behind it in the graph is needed."""


class Ggml:
    """ggml's tensors, by their addresses. EvaluationError where its struct isn't the known one."""

    def __init__(self, llama: Llama) -> None:
        llama.require_graph()
        self._llama = llama
        try:
            names = (b"NONE", b"MUL_MAT", b"MUL_MAT_ID", b"GET_ROWS", b"RESHAPE")
            self.none, self.mul_mat, self.mul_mat_id, self.get_rows, self.reshape = _numbers(llama, names)
            self._check()
        except StructError as error:
            raise llama.unknown(error) from error

    def tensor(self, address: int) -> Tensor:
        """The struct at an address."""
        return Tensor.from_address(address)

    def array(self, tensor: Tensor, dtype: type[np.generic]) -> NDArray[Any]:
        """The elements of a tensor, four axes, ggml's in reverse: a view where they lie in our memory, else a copy."""
        if tensor.buffer and self._llama.ggml_backend_buffer_is_host(tensor.buffer):
            nbytes = self._llama.ggml_nbytes(ctypes.byref(tensor))
            raw = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(tensor.data))
        else:
            raw = self.read(ctypes.addressof(tensor))
        shape, strides = tuple(tensor.ne)[::-1], tuple(tensor.nb)[::-1]
        return np.lib.stride_tricks.as_strided(raw.view(dtype), shape, strides)

    def read(self, address: int, part: slice = slice(None)) -> NDArray[np.uint8]:
        """The bytes of a tensor, or a part of them, copied, wherever it lies."""
        pointer = ctypes.cast(address, _POINTER)
        start, stop, _ = part.indices(self._llama.ggml_nbytes(pointer))
        raw = np.empty(stop - start, np.uint8)
        self._llama.ggml_backend_tensor_get(pointer, raw.ctypes.data, start, raw.size)
        return raw

    def write(self, address: int, data: NDArray[np.uint8], offset: int = 0) -> None:
        """Replace bytes of a tensor from an offset on, wherever it lies."""
        pointer = ctypes.cast(address, _POINTER)
        self._llama.ggml_backend_tensor_set(pointer, data.ctypes.data, offset, data.nbytes)

    def weight(self, address: int) -> Weight:
        """What a tensor of the model is."""
        tensor = self.tensor(address)
        shape = tuple(tensor.ne)
        while len(shape) > 1 and shape[-1] == 1:
            shape = shape[:-1]
        name = self._llama.ggml_backend_buffer_name(tensor.buffer) if tensor.buffer else b""
        return Weight(
            name=_plain_name(tensor),
            ggml_type=tensor.type,
            shape=shape,
            nbytes=self._llama.ggml_nbytes(ctypes.cast(address, _POINTER)),
            buffer=name.decode("utf-8", "replace"),
            address=address,
            passing=_is_copy(tensor),
        )

    def _check(self) -> None:
        """Make tensors, and hold the struct against what is known of them. StructError where it differs."""
        llama = self._llama
        context = llama.ggml_init(InitParameters(_TRIED_MEMORY, None, False))
        if not context:
            raise StructError("ggml makes no context for tensors")
        try:
            matrix = llama.ggml_new_tensor_3d(context, _F16, 32, 5, 3)
            inputs = llama.ggml_new_tensor_3d(context, _F32, 32, 7, 3)
            llama.ggml_set_name(matrix, b"a matrix")
            product, view = (
                llama.ggml_mul_mat(context, matrix, inputs),
                llama.ggml_view_tensor(context, inputs),
            )
            m, p, v = matrix.contents, product.contents, view.contents
            one, two = (ctypes.addressof(tensor.contents) for tensor in (matrix, inputs))
            expected = {
                "type": ((m.type, p.type), (_F16, _F32)),
                "ne": ((*m.ne, *p.ne), (32, 5, 3, 1, 5, 7, 3, 1)),
                "nb": ((*m.nb, *p.nb), (2, 64, 320, 960, 4, 20, 140, 420)),
                "op": ((m.op, p.op), (self.none, self.mul_mat)),
                "src": (tuple(p.src), (one, two, *8 * (None,))),
                "view_src": ((p.view_src, v.view_src), (None, two)),
                "data": (
                    (m.data, p.data),
                    (llama.ggml_get_data(matrix), llama.ggml_get_data(product)),
                ),
                "name": (m.name, llama.ggml_get_name(matrix)),
            }
            for name, (found, wanted) in expected.items():
                if found != wanted:
                    raise StructError(f"{name} of ggml_tensor is {found}, not {wanted}")
            if llama.ggml_nbytes(matrix) != 960:
                raise StructError(f"ggml_nbytes is {llama.ggml_nbytes(matrix)}, not 960")
        finally:
            llama.ggml_free(context)


class Callback:
    """What llama.cpp calls for each node. `watch` may change; an exception of it is raised by `check`.

    `function` is what llama.cpp gets, for as long as this lives.
    """

    def __init__(self, ggml: Ggml) -> None:
        self.watch: Watch | None = None
        self.visit: Callable[[int], None] | None = None  # hears the address of every node that is asked about
        self.calls = 0
        self._ggml = ggml
        self._error: BaseException | None = None
        self.function = _EVAL(self._called)

    def check(self) -> None:
        """Raise what a watch raised within llama.cpp, which no exception can pass."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _called(self, address: int, ask: bool, _: object) -> bool:
        self.calls += 1
        if self._error is not None:
            return ask  # computed no further than to the next node
        try:
            if self.visit is not None:
                self.visit(address)
            if self.watch is None:
                return False
            product = self._product(address)
            if product is None:
                return False
            return self.watch.wants(product) if ask else self.watch.see(product)
        except BaseException as error:  # noqa: BLE001  # kept for `check`
            self._error = error
            return False

    def _product(self, address: int) -> Product | None:
        ggml = self._ggml
        node = ggml.tensor(address)
        op = node.op
        if op not in (ggml.mul_mat, ggml.mul_mat_id, ggml.get_rows):
            return None
        by_expert, lookup = op == ggml.mul_mat_id, op == ggml.get_rows
        weight, other = ggml.tensor(node.src[0]), node.src[1]
        return Product(
            weight=_plain_name(weight),
            shape=tuple(weight.ne),
            kind="lookup" if lookup else "by expert" if by_expert else "product",
            key=(other, node.src[2] if by_expert else None, op, weight.ne[0], weight.ne[2], weight.ne[3]),
            root=self._root(other),
            values=node if lookup else ggml.tensor(other),
            experts=ggml.tensor(node.src[2]) if by_expert else None,
            ggml=ggml,
        )

    def _root(self, address: int) -> int:
        while (tensor := self._ggml.tensor(address)).op == self._ggml.reshape and tensor.src[0]:
            address = tensor.src[0]
        return address


def _numbers(llama: Llama, names: Sequence[bytes]) -> list[int]:
    """ggml's numbers of operations. StructError where there is none of a name."""
    known = [llama.ggml_op_name(number) for number in range(_OPS)]
    if missing := [name.decode() for name in names if name not in known]:
        raise StructError(f"ggml has no operation {', '.join(missing)} among its first {_OPS}")
    return [known.index(name) for name in names]


def _plain_name(tensor: Tensor) -> str:
    """The model's name for a weight; a copy that was made for another device is CUDA0#blk.0.attn_k.weight#0."""
    name = bytes(tensor.name).decode("utf-8", "replace")
    return name.split("#")[1] if _is_copy(tensor) else name


def _is_copy(tensor: Tensor) -> bool:
    """True of what ggml's scheduler copies to the device that computes with it, each time that it does."""
    return bytes(tensor.name).count(b"#") == 2
