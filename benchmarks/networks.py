"""Our networks against those of timm and torchvision: a training step, and inference.

    python benchmarks/networks.py [--rounds 15] [--batch 8] [--size 128] [--device cpu]

Both sides have the same architecture and memory order and alternate in one process; the ratio of
the medians of ours to theirs is printed, below 1 where ours is faster.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import cvnets

PAIRS = {
    "mobilevit_xx_small": "timm/mobilevit_xxs",
    "mobilevit_v2_0.5": "timm/mobilevitv2_050",
    "mobilevit_v2_1.0": "timm/mobilevitv2_100",
    "mobilenetv2_1.0": "torchvision/mobilenet_v2",
}


def step(network: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """Forward and backward in training mode."""

    def run() -> None:
        network.train()
        network(images).square().mean().backward()
        network.zero_grad(set_to_none=True)

    return run


def inference(network: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """Forward in evaluation mode."""

    def run() -> None:
        network.eval()
        with torch.inference_mode():
            network(images)

    return run


def timed(call: Callable[[], None], device: str) -> float:
    """Seconds of a call, the device's work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    images = torch.rand(given.batch, 3, given.size, given.size, device=given.device)
    images = images.to(memory_format=torch.channels_last)
    print(f"{'ours':20} {'theirs':28} {'step':>6} {'inference':>10}")
    for ours, theirs in PAIRS.items():
        networks = [
            cvnets.create_model(name).to(given.device, memory_format=torch.channels_last)
            for name in (ours, theirs)
        ]
        ratios = []
        for kind in (step, inference):
            calls = [kind(network, images) for network in networks]
            times: list[list[float]] = [[], []]
            for turn in range(given.rounds + 2):
                for side, call in enumerate(calls):
                    seconds = timed(call, given.device)
                    if turn >= 2:  # the first two warm up
                        times[side].append(seconds)
            ratios.append(statistics.median(times[0]) / statistics.median(times[1]))
        print(f"{ours:20} {theirs:28} {ratios[0]:6.3f} {ratios[1]:10.3f}", flush=True)


if __name__ == "__main__":
    main()
