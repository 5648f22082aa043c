"""Image sizes, levels and output strides of networks from timm and torchvision."""

from __future__ import annotations

import logging

import pytest
import torch
from torch.nn import functional as F

import cvnets
from config.errors import UserError
from cvnets.models.foreign import InputSizes, Tap, by_level, input_sizes
from cvnets.models.pyramid import resample

timm = pytest.importorskip("timm")

CLASSES = 7
SQUARE = (224, 224)


def images_of(size):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("name", "rule", "lines"),
    [
        ("timm/resnet10t", InputSizes(), []),
        ("timm/vit_tiny_patch16_224", InputSizes(step=16), ["multiples of 16; other images are"]),
        ("timm/swin_tiny_patch4_window7_224", InputSizes(step=32), ["multiples of 32; other"]),
        ("timm/pit_ti_224", InputSizes(only=SQUARE), ["images of 224 x 224; others are resized"]),
        ("torchvision/vit_b_32", InputSizes(only=SQUARE), ["images of 224 x 224; others are"]),
        ("torchvision/swin_t", InputSizes(), []),
    ],
)
@pytest.mark.parametrize("size", [(96, 160), (75, 131)])
def test_any_image_size(caplog, name, rule, lines, size):
    caplog.set_level(logging.INFO)
    with torch.device("meta"):
        network = cvnets.create_model(name, n_classes=CLASSES)
        images = torch.rand(2, 3, *size)
        maps = network.features(images)
        assert network(images).shape == (2, CLASSES)
    assert network._sizes == rule
    assert len(caplog.messages) == len(lines)
    assert all(line in said for line, said in zip(lines, caplog.messages, strict=True))
    assert list(maps) == list(network.channels) == list(network.strides)
    for level, value in maps.items():
        sides = [-(-side // network.strides[level]) for side in size]
        assert value.shape == (2, network.channels[level], *sides)


def test_images_of_another_size_are_resized_smoothly():
    network = cvnets.create_model("timm/pit_ti_224", n_classes=CLASSES).eval()
    images = images_of((300, 260))
    smooth = F.interpolate(images, SQUARE, mode="bilinear", antialias=True)
    with torch.no_grad():
        assert torch.equal(network(images), network.network(smooth))
        maps = network.features(images, ["l4"])["l4"]
        native = network.network.forward_intermediates(smooth, intermediates_only=True)[1]
    assert maps.shape[2:] == (19, 17)
    torch.testing.assert_close(maps, F.interpolate(native, (19, 17), mode="bilinear"))


def test_sizes_that_a_network_takes_are_found_by_trying():
    def network_of(fits):
        def run(size):
            if not fits(*size):
                raise AssertionError("wrong size")

        return run

    assert input_sizes(network_of(lambda h, w: True), SQUARE, 32) == InputSizes()
    even = network_of(lambda h, w: h % 32 == w % 32 == 0)
    assert input_sizes(even, SQUARE, 32) == InputSizes(step=32)
    assert input_sizes(even, SQUARE, 16) == InputSizes(only=SQUARE)
    one = network_of(lambda h, w: (h, w) == SQUARE)
    assert input_sizes(one, SQUARE, 32) == InputSizes(only=SQUARE)
    assert InputSizes(step=32).nearest((1, 65)) == (32, 96)
    assert InputSizes(only=SQUARE).nearest((1, 65)) == SQUARE
    assert InputSizes().nearest((1, 65)) == (1, 65)


def test_levels_come_from_the_nearest_map():
    def places(*strides, behind=False):
        taps = [Tap(place, stride, 8) for place, stride in enumerate(strides)]
        return {level: tap.place for level, tap in by_level(taps).items()}

    plain = {"l1": 0, "l2": 1, "l3": 2, "l4": 3, "l5": 4, "l5_exp": 4}
    assert places(2, 4, 8, 16, 32) == plain
    assert places(1, 2, 2.01, 4.1, 8.6, 17.2, 37.4) == {
        "l1": 2, "l2": 3, "l3": 4, "l4": 5, "l5": 6, "l5_exp": 6,
    }  # fmt: skip
    assert places(16, 16, 16) == {"l2": 2, "l3": 2, "l4": 2, "l5": 2, "l5_exp": 2}
    assert places(4, 8, 16) == {"l2": 0, "l3": 1, "l4": 2, "l5": 2, "l5_exp": 2}
    assert places(8, 32) == {"l2": 0, "l3": 0, "l4": 1, "l5": 1, "l5_exp": 1}
    assert places(16, 32, 64) == {"l2": 0, "l3": 0, "l4": 0, "l5": 1, "l5_exp": 1}
    last = [Tap("a", 32, 8), Tap("b", 32, 64, behind=True)]
    assert by_level(last)["l5"].place == "a"
    assert by_level(last)["l5_exp"].place == "b"


def test_maps_are_averaged_down_and_interpolated_up():
    maps = torch.arange(24.0).reshape(1, 1, 4, 6)
    halved = torch.tensor([[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]])
    assert torch.equal(resample(maps, (2, 3))[0, 0], halved)
    assert resample(maps, (4, 6)) is maps
    assert torch.equal(resample(maps[:, :, :3], (2, 3))[0, 0, 1], torch.tensor([12.5, 14.5, 16.5]))
    up = resample(maps, (8, 12))[0, 0]
    assert up.shape == (8, 12)
    torch.testing.assert_close(up[3, 1:-1], up[3, 1] + 0.5 * torch.arange(10.0))
    for size in ((28, 8), (5, 40), (1, 1)):
        torch.testing.assert_close(resample(torch.ones(1, 2, 31, 9), size), torch.ones(1, 2, *size))


# --- output stride -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm/resnet26", False),
        ("timm/regnety_002", False),
        ("timm/pvt_v2_b0", True),
        ("torchvision/resnet50", False),
        ("torchvision/resnet18", True),
        ("torchvision/mobilenet_v2", True),
    ],
)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_output_stride(caplog, name, said, output_stride):
    """By dilation, or by larger maps; the log tells which."""
    caplog.set_level(logging.INFO)
    with torch.device("meta"):
        network = cvnets.create_model(name, output_stride=output_stride)
        maps = network.features(torch.rand(1, 3, 64, 96))
    for level, stride in {"l3": 8, "l4": 16, "l5": 32}.items():
        assert network.strides[level] == min(stride, output_stride)
    for level, stride in network.strides.items():
        assert maps[level].shape[2:] == (64 // stride, 96 // stride)
    dilations = {
        module.dilation for module in network.modules() if isinstance(module, torch.nn.Conv2d)
    }
    assert ((2, 2) in dilations) == (output_stride < 32 and not said)
    assert caplog.messages == (
        [f"{name} has no output_stride: its last maps are enlarged"] * (said and output_stride < 32)
    )


def test_output_strides_that_do_not_exist_are_refused():
    with pytest.raises(UserError, match="output_stride: 12 is not possible"):
        cvnets.create_model("torchvision/resnet18", output_stride=12)
