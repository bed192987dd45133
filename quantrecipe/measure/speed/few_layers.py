"""A few layers of a model, as a model of its own: what is timed has its shapes, and is small enough to be made quickly.

    layers       the first ones, so many that each kind is there and that what a token reads isn't in the caches
    vocabulary   cut, and its tokens are placeholders: only how many rows the head has matters
    experts      of very large layers, twice as many as a token is sent to

Nothing is read but headers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from quantrecipe.errors import EvaluationError, PlanError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.memory.active import ActiveBytes
from quantrecipe.model.model import Model
from quantrecipe.plan.pruning.layer_metadata import metadata_of_layers
from quantrecipe.tensor import TensorInfo

__all__ = ["Cut", "choose_cut", "cut_model", "whole_model"]

_WEIGHTS = 130_000_000
"""Of the layers, and half as many of the head: at 2 bits still more than the caches of processors hold."""
_HEAD_WEIGHTS = 65_000_000
_ROWS = 512  # of a vocabulary, at least
_MOST_WHOLE = 4_000_000_000  # weights: a model that can't be pruned is measured whole up to here

_BYTES = 256  # tokens of an SPM vocabulary for single bytes
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # llama.h: llama_token_type


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """How much of a model is left: its first layers, rows of its vocabulary, and experts of each layer (0: all)."""

    layers: int
    rows: int
    experts: int = 0


def choose_cut(model: Model) -> tuple[Cut, Cut, Cut]:
    """What is timed; the same with a quarter of the vocabulary; and that with as few layers as there can be.

    EvaluationError where the model has no head, or no layers, or doesn't say how many experts are used.
    """
    head = next((tensor for tensor in model.tensors if tensor.name == model.head), None)
    if head is None or not model.n_layers:
        what = "has no layers and no head, so it makes no tokens whose time could be measured"
        raise EvaluationError(what, "name a language model", file=model.path)
    if not ActiveBytes(model).known:
        what = "doesn't say how many of its experts a token is sent to, so nobody knows what a token reads"
        raise EvaluationError(
            what, "name the model itself: a folder of Hugging Face, or a GGUF", file=model.path
        )
    experts = _experts(model)
    kinds: dict[int, set[tuple[str, tuple[int, ...]]]] = {}
    for tensor in model.tensors:
        if tensor.layer is not None and tensor.layer < model.n_layers:
            kinds.setdefault(tensor.layer, set()).add((tensor.role, tensor.shape))
    seen: list[set[tuple[str, tuple[int, ...]]]] = []
    least = 1
    for layer in range(model.n_layers):
        if (kind := kinds.get(layer, set())) not in seen:
            seen.append(kind)
            least = layer + 1
    layers, weights = 0, 0
    while layers < model.n_layers and (layers < max(2, least) or weights < _WEIGHTS):
        weights += sum(_fewer(t, experts, model).size for t in model.tensors if t.layer == layers)
        layers += 1
    rows = min(head.rows, max(_ROWS, _HEAD_WEIGHTS // head.cols))
    least = min(least, layers)
    try:
        _metadata(model, layers)
        _metadata(model, least)
    except PlanError as error:
        if sum(tensor.size for tensor in model.tensors) > _MOST_WHOLE:
            what = f"can't be cut to a few layers, and is too large to be measured whole: {error.problems[0].what}"
            raise EvaluationError(what, file=model.path) from error
        layers = least = model.n_layers
    full = Cut(layers=layers, rows=rows, experts=experts)
    narrow = replace(full, rows=max(_ROWS, rows // 4))
    return full, narrow, replace(narrow, layers=least)


def whole_model(model: Model) -> Model:
    """All layers of the model and its whole vocabulary, as `cut_model` has them."""
    rows = next(tensor.rows for tensor in model.tensors if tensor.name == model.head)
    return cut_model(model, Cut(layers=model.n_layers, rows=rows))


def cut_model(model: Model, cut: Cut) -> Model:
    """The model with that much of it, in F32 and without weights, as something that can be planned."""
    vocabulary = next(tensor.rows for tensor in model.tensors if tensor.name == model.head)
    metadata = {
        key: value
        for key, value in model.metadata.items()
        if key == "general.architecture" or key.startswith(f"{model.arch}.")
    }
    metadata = _derived(model) | metadata
    if cut.layers < model.n_blocks:
        metadata |= _metadata(model, cut.layers)
    if cut.experts:
        metadata[f"{model.arch}.expert_count"] = GGUFValue.of(ValueType.UINT32, cut.experts)
    if f"{model.arch}.vocab_size" in metadata:
        metadata[f"{model.arch}.vocab_size"] = GGUFValue.of(ValueType.UINT32, cut.rows)
    tensors = []
    for tensor in model.tensors:
        if tensor.layer is not None and tensor.layer >= cut.layers:
            continue
        shape = _fewer(tensor, cut.experts, model).shape
        if tensor.layer is None:
            shape = tuple(cut.rows if size == vocabulary else size for size in shape)
        tensors.append(replace(tensor, shape=shape, dtype="F32"))
    return replace(
        model,
        container="shapes",
        tensors=tuple(tensors),
        metadata=metadata | _vocabulary(cut.rows),
        sources={},
        files=(),
    )


def _metadata(model: Model, layers: int) -> dict[str, GGUFValue]:
    return metadata_of_layers(
        model, range(layers), n_layers=model.n_layers, n_blocks=model.n_blocks, given={}
    )


def _experts(model: Model) -> int:
    """How many experts a layer keeps; 0 for all, as long as they aren't many times what is measured."""
    stacks: dict[int, int] = {}
    count = 0
    for tensor in model.tensors:
        if tensor.layer is not None and tensor.role.endswith("_exps") and len(tensor.shape) == 3:
            stacks[tensor.layer] = stacks.get(tensor.layer, 0) + tensor.size
            count = max(count, tensor.experts)
    used = max((model.number("expert_used_count", layer=layer) for layer in stacks), default=0)
    if not used or max(stacks.values()) <= 2 * _WEIGHTS:
        return 0
    groups = max(1, model.number("expert_group_count", 1))
    kept = -(-max(2 * used, 8) // groups) * groups
    return kept if kept < count else 0


def _fewer(tensor: TensorInfo, experts: int, model: Model) -> TensorInfo:
    """A tensor of a layer with that many experts."""
    count = model.number("expert_count")
    if not experts or tensor.layer is None or not count:
        return tensor
    about = tensor.role.endswith(("_exps", "_exps.bias")) or tensor.role.startswith(
        ("ffn_gate_inp", "exp_probs")
    )
    if not about or tensor.shape[0] != count:
        return tensor
    return replace(tensor, shape=(experts, *tensor.shape[1:]))


def _derived(model: Model) -> dict[str, GGUFValue]:
    """What shape files may leave out and llama.cpp asks for, as far as it shows in the shapes or doesn't matter."""
    layer = {tensor.role: tensor for tensor in model.tensors if tensor.layer == model.n_layers - 1}
    first = {tensor.role: tensor for tensor in model.tensors if tensor.layer == 0}
    numbers: dict[str, int] = {}
    down = first.get("ffn_down") or layer.get("ffn_down")
    if down is not None:
        numbers["feed_forward_length"] = down.cols
    if (experts := layer.get("ffn_down_exps")) is not None:
        numbers["expert_feed_forward_length"] = experts.cols
        numbers.setdefault("feed_forward_length", experts.cols)
    heads = model.number("attention.head_count_kv", model.number("attention.head_count"))
    for key, role in (("attention.key_length", "attn_k"), ("attention.value_length", "attn_v")):
        if heads and role in first:
            numbers[key] = first[role].rows // heads
    found = {key: GGUFValue.of(ValueType.UINT32, value) for key, value in numbers.items()}
    for key, epsilon in (("layer_norm_rms_epsilon", 1e-6), ("layer_norm_epsilon", 1e-5)):
        found[f"attention.{key}"] = GGUFValue.of(ValueType.FLOAT32, epsilon)
    return {f"{model.arch}.{key}": value for key, value in found.items()}


def _vocabulary(rows: int) -> dict[str, GGUFValue]:
    """Placeholders for so many tokens, in the kind of vocabulary that needs least beside them."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(_BYTES))]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * _BYTES]
    tokens += [f"t{number}" for number in range(rows - len(tokens))]
    kinds += [_NORMAL] * (rows - len(kinds))
    return {
        "tokenizer.ggml.model": GGUFValue.of(ValueType.STRING, "llama"),
        "tokenizer.ggml.tokens": GGUFValue.array(ValueType.STRING, tokens[:rows]),
        "tokenizer.ggml.scores": GGUFValue.array(ValueType.FLOAT32, [0.0] * rows),
        "tokenizer.ggml.token_type": GGUFValue.array(ValueType.INT32, kinds[:rows]),
        "tokenizer.ggml.bos_token_id": GGUFValue.of(ValueType.UINT32, 1),
        "tokenizer.ggml.eos_token_id": GGUFValue.of(ValueType.UINT32, 2),
    }
