"""Our detection loss and post-processing against those of torchvision's SSD.

    python benchmarks/detection.py [--rounds 15] [--batches 1,16] [--threads 1] [--device cpu]

Both sides get the same scores, offsets, anchors (3232, those of 320x320 images) and objects, and
alternate in one process; the ratio of the medians of ours to theirs is printed, below 1 where ours
is faster. `loss` is matching, loss and gradients; `sparse` the post-processing of a network that
takes nearly all anchors for background, `dense` that of random scores.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.detection import ssd as peer_ssd
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.ops import box_convert, box_iou

from cvnets.boxes.matcher import SSDMatcher, SSDMatcherOptions
from cvnets.boxes.output import DetectionOutput
from cvnets.boxes.selection import Limits, select
from cvnets.models.detection import SSDAnchorOptions, SSDAnchors
from loss_fn import SSDMultiboxLoss, SSDMultiboxOptions

SIZE = 320
CLASSES = 81
MAPS = ((20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
LIMITS = Limits(threshold=0.01, per_class=400, per_image=200, overlap=0.5)
MATCHER = SSDMatcher(SSDMatcherOptions(iou_threshold=0.5))
PEER = peer_ssd.SSD(
    nn.Identity(),
    DefaultBoxGenerator([[2]]),
    (SIZE, SIZE),
    CLASSES,
    head=nn.Identity(),
    score_thresh=LIMITS.threshold,
    nms_thresh=LIMITS.overlap,
    topk_candidates=LIMITS.per_class,
    detections_per_img=LIMITS.per_image,
    iou_thresh=MATCHER.iou_threshold,
)


def objects(images: int, device: str) -> dict[str, Tensor]:
    """As many objects in an image as in COCO: seven on average, often one, sometimes thirty."""
    counts = torch.empty(images).exponential_(1 / 6.5).add(1).clamp(max=40).long()
    sides = torch.rand(images, int(counts.max()), 2) * 0.5 + 0.03
    corners = torch.rand_like(sides) * (1 - sides)
    labels = torch.randint(1, CLASSES, sides.shape[:2])
    labels[torch.arange(sides.shape[1]) >= counts[:, None]] = 0
    boxes = torch.cat((corners, corners + sides), dim=-1) * (labels > 0)[..., None]
    return {"boxes": boxes.to(device), "labels": labels.to(device)}


def output(images: int, device: str, targets: dict[str, Tensor] | None) -> DetectionOutput:
    """Random predictions, or those of a network that has learnt `targets`."""
    dtype = torch.float32
    anchors = SSDAnchors(SSDAnchorOptions())(MAPS, dtype=dtype, device=torch.device(device))
    scores = torch.randn(images, len(anchors), CLASSES, device=device)
    boxes = torch.randn(images, len(anchors), 4, device=device)
    if targets is not None:
        labels, regressions = MATCHER.match(targets["boxes"], targets["labels"], anchors)
        scores.scatter_add_(2, labels[..., None], torch.full_like(scores[..., :1], 8.0))
        boxes = regressions + 0.3 * boxes
    return DetectionOutput(scores, boxes, anchors)


def training(given: DetectionOutput, targets: dict[str, Tensor]) -> list[Callable[[], None]]:
    """Matching, loss and gradients: ours, theirs."""
    leaves = [tensor.requires_grad_() for tensor in given[:2]]
    loss = SSDMultiboxLoss(SSDMultiboxOptions(), matcher=MATCHER)
    corners = box_convert(given.anchors, "cxcywh", "xyxy") * SIZE
    theirs = [
        {"boxes": boxes[labels > 0] * SIZE, "labels": labels[labels > 0]}
        for boxes, labels in zip(targets["boxes"], targets["labels"], strict=True)
    ]

    def ours() -> None:
        torch.autograd.grad(loss(None, given, targets).total, leaves)

    def peer() -> None:
        matched = [PEER.proposal_matcher(box_iou(one["boxes"], corners)) for one in theirs]
        heads = {"bbox_regression": given.boxes, "cls_logits": given.scores}
        parts = PEER.compute_loss(theirs, heads, [corners] * len(theirs), matched)
        torch.autograd.grad(parts["bbox_regression"] + parts["classification"], leaves)

    return [ours, peer]


def detection(given: DetectionOutput) -> list[Callable[[], None]]:
    """Softmax, decoding, selection and suppression: ours, theirs."""
    corners = box_convert(given.anchors, "cxcywh", "xyxy") * SIZE
    images = len(given.scores)

    @torch.inference_mode()
    def ours() -> None:
        select(given.scores.softmax(-1), MATCHER.decode(given.boxes, given.anchors), LIMITS)

    @torch.inference_mode()
    def peer() -> None:
        heads = {"bbox_regression": given.boxes, "cls_logits": given.scores}
        PEER.postprocess_detections(heads, [corners] * images, [(SIZE, SIZE)] * images)

    return [ours, peer]


def timed(call: Callable[[], None], device: str) -> float:
    """Seconds of a call, the device's work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(calls: list[Callable[[], None]], rounds: int, device: str) -> list[float]:
    """Median seconds of each call; they take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 2):
        for side, call in zip(times, calls, strict=True):
            seconds = timed(call, device)
            if turn >= 2:  # the first two warm up
                side.append(seconds)
    return [statistics.median(side) for side in times]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(f"{'what':8} {'batch':>5} {'ours ms':>9} {'theirs ms':>9} {'ratio':>6}")
    for batch in map(int, given.batches.split(",")):
        targets = objects(batch, given.device)
        learnt, noise = (output(batch, given.device, known) for known in (targets, None))
        kinds = {
            "sparse": detection(learnt),
            "dense": detection(noise),
            "loss": training(noise, targets),
        }
        for kind, calls in kinds.items():
            ours, theirs = compare(calls, given.rounds, given.device)
            row = f"{1e3 * ours:9.2f} {1e3 * theirs:9.2f} {ours / theirs:6.2f}"
            print(f"{kind:8} {batch:5} {row}", flush=True)


if __name__ == "__main__":
    main()
