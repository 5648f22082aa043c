"""The model card of a network: parameters, multiply-accumulates and activations, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

OTHER = "other"  # the row of what belongs to no stage, e.g. tokens of the network itself


@dataclass(frozen=True)
class StageProfile:
    """One stage for one image.

    `output`: shape without the batch, e.g. (C, H, W); None if no tensor comes out, or nothing runs.
    """

    name: str
    output: tuple[int, ...] | None
    parameters: int
    multiply_accumulates: int
    activations: int


@dataclass(frozen=True)
class Profile:
    """A network for one image of `size` (height, width) in pixels; the stages add up to the totals.

    `parameters`: elements of all parameters, each counted once; buffers are not counted.

    `multiply_accumulates`: of all convolutions and matrix products, both products of an attention
    included: half of what `torch.utils.flop_counter` reports. Norms, activation functions,
    additions, resizing and biases are not counted.

    `activations`: elements of the outputs of the same convolutions and matrix products
    (Radosavovic et al., "Designing Network Design Spaces", 2020, section 4, who count
    convolutions). An attention counts as its two products, [heads, queries, keys] and
    [heads, queries, head width], whether a fused kernel stores the first one or not.
    """

    size: tuple[int, int]
    parameters: int
    multiply_accumulates: int
    activations: int
    stages: tuple[StageProfile, ...]


def profile(network: nn.Module, size: tuple[int, int]) -> Profile:
    """Run `network` on one image [1, 3, height, width] where its parameters are, and count.

    On the meta device (see `profile_built`) this needs neither memory nor time. The stages are the
    children of `network` that have something to count, in the order in which they run first (of a
    network that only wraps another, the children of that one); the row `other` is what is left, if
    there is any. ValueError if `size` is not positive.
    """
    if min(size) < 1:
        raise ValueError(f"an image of {size[0]}x{size[1]} has no pixels")
    like = next(network.parameters(), torch.empty(0))
    images = torch.zeros(1, 3, *size, device=like.device, dtype=like.dtype)
    counter = _Counter(network)
    with _evaluating(network), torch.no_grad(), counter.counting():
        network(images)
    return counter.result(size)


def profile_built(build: Callable[[], nn.Module], size: tuple[int, int]) -> Profile:
    """The profile of the network that `build` makes, on the meta device.

    A network that looks at values while it is built or run cannot be there: it is built on the CPU.
    """
    try:
        with on_meta():
            return profile(build(), size)
    except RuntimeError:  # NotImplementedError is one, too; a true error is raised again below
        return profile(build(), size)


@contextmanager
def on_meta() -> Iterator[None]:
    """Networks built inside have shapes but no values; even the largest ones take no memory."""
    with torch.device("meta"), _WithoutDraws():
        yield


class _WithoutDraws(TorchFunctionMode):
    """Leaves `normal_` out, which changes nothing on the meta device and takes most of the time."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.normal_ and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the convolutions and matrix products that run inside, by the formulas of torch.

    `torch.utils.flop_counter.FlopCounterMode` itself stumbles over modules that return a parameter.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0
        self.elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        product = func._overloadpacket
        if product in flop_registry:
            self.macs += flop_registry[product](*args, **options, out_val=result) // 2
            self.elements += _elements(str(product), args, result)
        return result


def _elements(product: str, operands: Any, result: Any) -> int:
    """Elements that come out of a product; of a fused attention those of both its products."""
    if "scaled_dot_product" not in product:
        return int(result.numel())
    query, key, value = operands[:3]  # [B, heads, tokens, width]
    return math.prod(query.shape[:-1]) * int(key.shape[-2] + value.shape[-1])


class _Counter:
    """Counts a call of a network, for each of its stages and as a whole.

    Hooks stand on every module inside a stage, because a stage that is a list is never called
    itself. The outermost call counts.
    """

    def __init__(self, network: nn.Module):
        self._network = network
        self._stages = _stages(network)
        self._products = _Products()
        self._counts: dict[str, tuple[int, int]] = {}
        self._outputs: dict[str, tuple[int, ...] | None] = {}
        self._running: tuple[str, nn.Module] | None = None
        self._start = (0, 0)

    @contextmanager
    def counting(self) -> Iterator[None]:
        hooks = []
        for name, stage in self._stages.items():
            for module in stage.modules():
                hooks.append(module.register_forward_pre_hook(partial(self._enter, name)))
                hooks.append(module.register_forward_hook(partial(self._leave, name)))
        try:
            with self._products:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, stage: str, module: nn.Module, inputs: Any) -> None:
        if self._running is None:
            self._running = (stage, module)
            self._start = self._totals()

    def _leave(self, stage: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._running != (stage, module):
            return
        self._running = None
        before = self._counts.get(stage, (0, 0))
        spent = zip(before, self._totals(), self._start, strict=True)
        macs, elements = (old + now - start for old, now, start in spent)
        self._counts[stage] = (macs, elements)
        self._outputs[stage] = tuple(output.shape[1:]) if isinstance(output, Tensor) else None

    def _totals(self) -> tuple[int, int]:
        return self._products.macs, self._products.elements

    def result(self, size: tuple[int, int]) -> Profile:
        owned = _parameters_of(self._stages)
        everything = [
            StageProfile(
                name, self._outputs.get(name), owned[name], *self._counts.get(name, (0, 0))
            )
            for name in dict.fromkeys((*self._counts, *self._stages))  # in the order of the calls
        ]
        stages = [row for row in everything if row.parameters or row.activations]
        totals = (sum(p.numel() for p in self._network.parameters()), *self._totals())
        rest = (
            totals[0] - sum(stage.parameters for stage in stages),
            totals[1] - sum(stage.multiply_accumulates for stage in stages),
            totals[2] - sum(stage.activations for stage in stages),
        )
        if any(rest):
            stages.append(StageProfile(OTHER, None, *rest))
        return Profile(size, *totals, tuple(stages))


def _stages(network: nn.Module) -> dict[str, nn.Module]:
    """The children by name, below all modules that are nothing but a wrapper of one other."""
    stages = dict(network.named_children())
    while len(stages) == 1:
        (only,) = stages.values()
        inner = dict(only.named_children())
        if not inner:
            break
        stages = inner
    return stages


def _parameters_of(stages: Mapping[str, nn.Module]) -> dict[str, int]:
    """Elements of the parameters of each stage; what two stages share belongs to the first."""
    seen: set[nn.Parameter] = set()
    owned: dict[str, int] = {}
    for name, stage in stages.items():
        new = set(stage.parameters()) - seen
        seen |= new
        owned[name] = sum(parameter.numel() for parameter in new)
    return owned


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """`network` in eval mode inside, each module in its own mode again afterwards.

    Torch's own transformer layers take no short cut: that is one operation, which hides the products.
    """
    modes = [(module, module.training) for module in network.modules()]
    short_cut = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    network.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(short_cut)
        for module, training in modes:
            module.training = training
