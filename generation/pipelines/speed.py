"""Ways to paint the same picture sooner. None is part of a recipe: none changes what is asked for.

`graphs` replays what a device was told once, in place of telling it again. `channels-last` and
`fused-qkv` lay out weights anew, `autotune` picks the quickest of a device's convolutions and
`compile` writes kernels that do several things at once. `prompt-memory` encodes a prompt once.
docs/painting.md says which keep a picture to the bit and which within rounding.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.hooks import group_offloading
from diffusers.models import modeling_utils
from torch.utils import _pytree as trees

from generation.pipelines import OPTIONS

ON_CUDA = ("graphs",)
N_COMPILED = 64
N_REMEMBERED = 256  # prompts: 81 MB with the two encoders of SDXL in half precision


def options_for(asked: Sequence[str], device: str) -> tuple[str, ...]:
    """The options to use: those asked for ("none" is none of them), else a device's own."""
    on_cuda = device == "cuda"
    chosen = asked or (ON_CUDA if on_cuda else ())
    return tuple(one for one in OPTIONS if one in chosen and (on_cuda or one != "graphs"))


def hasten(pipeline: Any, options: Iterable[str]) -> None:
    """Apply options to the parts of a pipeline that are called once a step, or once an image."""
    parts = [getattr(pipeline, name, None) for name in ("unet", "transformer")]
    denoisers = [part for part in parts if part is not None]
    vae = getattr(pipeline, "vae", None)
    if "autotune" in options:
        torch.backends.cudnn.benchmark = True
    for part in (*denoisers, vae):
        if "channels-last" in options and part is not None:
            part.to(memory_format=torch.channels_last)
    for part in denoisers:
        if "fused-qkv" in options and hasattr(part, "fuse_qkv_projections"):
            part.fuse_qkv_projections()
        if "compile" in options:
            _compile_blocks(part)
    if "compile" in options and vae is not None:
        vae.decoder.forward = torch.compile(vae.decoder.forward, dynamic=False)
    if "graphs" in options:
        encoders = [getattr(pipeline, f"text_encoder{n}", None) for n in ("", "_2", "_3")]
        decoder = getattr(vae, "decoder", None)
        for part in (*denoisers, *encoders, decoder):
            if part is not None:
                part.forward = Graphed(part.forward)


def _compile_blocks(part: torch.nn.Module) -> None:
    """Compile what a model is made of many times over. The whole of it would take minutes, and a
    UNet's residual blocks twenty seconds more for each size of a batch, for 4% at best."""
    # One for each width of a block and size of a batch; beyond eight torch compiles no more.
    torch._dynamo.config.recompile_limit = N_COMPILED
    for block in part.modules():
        if type(block).__name__ in (getattr(part, "_repeated_blocks", None) or ()):
            block.compile(dynamic=False)


@contextmanager
def nothing_offloaded() -> Iterator[None]:
    """Spare diffusers its searches while a pipeline is called whose parts stay where they are.

    Whenever it asks where a part works, or in which precision, it looks through all its modules for
    one that is moved or cast when it is needed. A call of SDXL asks a dozen times, over 2,700
    modules.
    """
    with (
        _replaced(
            group_offloading,
            _get_top_level_group_offload_hook=lambda module: None,
            _get_group_onload_device=_device_of,
        ),
        _replaced(modeling_utils, get_parameter_dtype=_dtype_of),
    ):
        yield


@contextmanager
def _replaced(module: Any, **functions: Callable[..., Any]) -> Iterator[None]:
    """Functions of a module, for a while."""
    names = vars(module)
    before = {name: names[name] for name in functions}
    names.update(functions)
    try:
        yield
    finally:
        names.update(before)


def _device_of(module: torch.nn.Module) -> torch.device:
    for parameter in module.parameters():
        return parameter.device
    raise ValueError("It has no parameters.")  # diffusers looks on elsewhere


_dtype_by_search = modeling_utils.get_parameter_dtype


def _dtype_of(module: torch.nn.Module) -> torch.dtype:
    # Of what is no module it reads the parameters alone.
    plain = SimpleNamespace(
        named_parameters=module.named_parameters,
        buffers=module.buffers,
        _named_members=module._named_members,
        _keep_in_fp32_modules=getattr(module, "_keep_in_fp32_modules", None),
    )
    dtype: torch.dtype = _dtype_by_search(plain)
    return dtype


class Graphed:
    """A function of tensors on a device that is recorded once for each shape, then replayed.

    A large model's step is thousands of launches, which a processor takes longer to make than a
    device to carry out. What comes back belongs to the caller: the next call does not change it.
    Calls without a tensor on the device are made as they are, and so are those with one elsewhere
    besides: a recording would go on with what that one held at first.
    """

    def __init__(
        self, function: Callable[..., Any], *, device: str = "cuda", record: "Record | None" = None
    ) -> None:
        self._function = function
        self._device = device
        self._record = record or record_on_cuda
        self._recorded: dict[Any, _Recording] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, shape = trees.tree_flatten((args, kwargs))
        places = {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}
        if places != {self._device}:
            return self._function(*args, **kwargs)
        key = (str(shape), *map(_key, leaves))
        if key not in self._recorded:
            self._recorded[key] = _Recording(self._record, self._function, leaves, shape)
        return self._recorded[key].replay(leaves)


# Makes a call, and returns what it returned with a way to have its work done again: over the same
# memory, without the call.
Record = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]


class _Recording:
    """One shape's work, with the memory that it reads from and writes to."""

    def __init__(
        self, record: Record, function: Callable[..., Any], leaves: list[Any], shape: Any
    ) -> None:
        self._leaves = [_copied(leaf) for leaf in leaves]
        args, kwargs = trees.tree_unflatten(self._leaves, shape)
        self._out, self._replay = record(lambda: function(*args, **kwargs))

    def replay(self, leaves: list[Any]) -> Any:
        for mine, given in zip(self._leaves, leaves, strict=True):
            if isinstance(mine, torch.Tensor):
                mine.copy_(given)
        self._replay()
        return trees.tree_map(_copied, self._out)


def record_on_cuda(call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """A `Record` of what a CUDA device was told."""
    # Twice beforehand, aside: libraries prepare themselves, and memory that is too small for the
    # batch shows before anything is recorded.
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()
    return out, graph.replay


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf


def _key(leaf: Any) -> Any:
    """What of an argument a recording is for: of a tensor its form, of anything else all of it."""
    if isinstance(leaf, torch.Tensor):
        return (tuple(leaf.shape), leaf.stride(), leaf.dtype, leaf.device)
    return leaf if isinstance(leaf, (int, float, str, bool, type(None))) else repr(leaf)


class PromptMemory:
    """The encodings of the prompts seen last, by one pipeline. `encode` gives for n prompts a tuple
    of tensors, each with n rows or more."""

    def __init__(self, encode: Callable[[list[str]], tuple[torch.Tensor, ...]]) -> None:
        self._encode = encode
        self._seen: OrderedDict[str, tuple[torch.Tensor, ...]] = OrderedDict()

    def __call__(self, prompts: Sequence[str]) -> tuple[torch.Tensor, ...]:
        """What `encode` gives for these prompts; only those not remembered are encoded."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._seen]
        if new:
            # Each row a copy: a view would keep all that were encoded beside it.
            rows = zip(*(map(torch.clone, part.unbind(0)) for part in self._encode(new)))
            self._seen.update(zip(new, rows))
        found = [self._seen[prompt] for prompt in prompts]
        for prompt in prompts:
            self._seen.move_to_end(prompt)
        while len(self._seen) > N_REMEMBERED:
            self._seen.popitem(last=False)
        return tuple(torch.stack(parts) for parts in zip(*found))
