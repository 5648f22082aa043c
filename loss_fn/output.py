"""What every loss returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class LossOutput:
    """A loss on the device: `total` to be differentiated, `parts` to be reported.

    `total` is a scalar, the mean over the micro-batch. `parts` names the (detached, scalar) terms
    of a loss that has several; it is empty where `total` says it all. `units`: over how many things
    the mean goes where these are not the images (anchors, pixels), a scalar that may be 0; the mean
    over many micro-batches is then the one over all their things.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    units: Tensor | None = None

    def __post_init__(self) -> None:
        for name, value in {"total": self.total, **self.parts}.items():
            if value.ndim != 0:
                raise ValueError(
                    f"loss {name!r} has shape {tuple(value.shape)}; reduce it to a scalar"
                )
