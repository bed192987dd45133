"""How much of a tensor is read for each token: of experts those that it is sent to, of tables one row.

Tables may have most of a file's bytes, such as the embeddings for each layer of Gemma 3n, and of these hardly any is
read. So they are counted by themselves, too.
"""

from __future__ import annotations

from quantrecipe.model.model import Model
from quantrecipe.tensor import TensorInfo, is_table

__all__ = ["ActiveBytes"]


class ActiveBytes:
    """Bytes that generating one token reads of a tensor, where the file stores so many."""

    def __init__(self, model: Model) -> None:
        self._head = model.head
        self._layers = model.n_layers
        self._used = [
            model.number("expert_used_count", layer=layer)
            for layer in range(1 + max((t.layer for t in model.tensors if t.layer is not None), default=0))
        ]

        #: False where a model with experts doesn't say how many of them a token is sent to
        self.known = not any(t.experts > 1 and t.role.endswith("_exps") for t in model.tensors) or any(
            self._used
        )

    def __call__(self, tensor: TensorInfo, nbytes: int) -> int:
        """Bytes that one token reads of a tensor of so many, rounded up."""
        if tensor.layer is not None and tensor.layer >= self._layers:
            return 0  # next-token prediction, which runs beside the model, if at all
        if is_table(tensor, self._head):
            return -(-nbytes // max(1, tensor.rows * tensor.experts))
        used = self._used[tensor.layer] if tensor.layer is not None else 0
        if tensor.experts > 1 and 0 < used < tensor.experts and tensor.role.endswith(("_exps", "_chexps")):
            return -(-nbytes * used // tensor.experts)
        return nbytes
