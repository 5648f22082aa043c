"""SSD: official figures, what it accepts, what it finds."""

from __future__ import annotations

import copy
import functools
import json
import re
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

import cvnets
from config.errors import UserError
from cvnets.boxes.matcher import SSDMatcher, SSDMatcherOptions
from cvnets.boxes.output import DetectionOutput
from cvnets.kinds import DETECTORS
from cvnets.layers.init import LayerOptions
from cvnets.layers.style import LayerStyle
from cvnets.models.detection import SSD, SSDAnchorOptions, SSDAnchors, SSDOptions
from cvnets.modules.feature_pyramid import FeaturePyramid
from cvnets.profile import on_meta, profile_built

REFERENCE = Path(__file__).parents[1] / "reference" / "detection"
FILES = {
    path.stem.removeprefix("ssdlite_"): json.loads(path.read_text())
    for path in sorted(REFERENCE.glob("*.json"))
}
RUNS = [
    pytest.param(name, run, id=f"{name}-{'x'.join(map(str, run['input_shape'][2:]))}")
    for name, figures in FILES.items()
    for run in (figures, *figures.get("extra_inputs", ()))
]
STYLE = LayerStyle().with_activation("relu")
WIDTHS = (512, 256, 256, 128, 128, 64)
FOUR = SSDAnchorOptions(output_strides=(16, 32, 64, 128), aspect_ratios=((2.0, 3.0),) * 4)
SMALL = SSDAnchorOptions(output_strides=(16, 32, -1), aspect_ratios=((2.0,),) * 3)


def make(backbone="mobilevit_xx_small", *, anchors=None, classes=81, style=STYLE, **given):
    encoder = backbone
    if isinstance(backbone, str):
        encoder = cvnets.create_model(backbone, output_stride=given.pop("output_stride", None))
    return SSD(
        SSDOptions(**{"proj_channels": WIDTHS, **given}),
        encoder=encoder,
        style=style,
        num_classes=classes,
        anchors=SSDAnchors(anchors or SSDAnchorOptions()),
        matcher=SSDMatcher(SSDMatcherOptions()),
    )


def official(name: str) -> SSD:
    variant = name.removesuffix("_fpn")
    return make(variant, use_fpn=variant != name)


def small(**given):
    """A detector that is quick to build and run."""
    return make("mobilevit_v2_0.5", anchors=SMALL, classes=4, proj_channels=(24, 16, 8), **given)


# --- official figures ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(reference):
    """Name -> the network with the weights of the figures."""
    return functools.cache(lambda name: reference.fill(official(name)))


@pytest.fixture(scope="module")
def predicted(reference, filled):
    """Name and input shape -> what the network gives."""

    @functools.cache
    def run(name, shape):
        with torch.no_grad():
            return filled(name)(reference.images(shape))

    return run


def test_all_official_files_are_there():
    assert set(FILES) == {"mobilevit_xx_small", "mobilevit_v2_1.0", "mobilevit_v2_0.5_fpn"}
    assert len(RUNS) == 5


@pytest.mark.parametrize("name", FILES)
def test_state_and_cost(name):
    with on_meta():
        network = official(name)
    state = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert list(state.items()) == list(FILES[name]["state"].items())
    profile = profile_built(lambda: official(name), (320, 320))
    assert profile.parameters == FILES[name]["n_params"]
    assert profile.multiply_accumulates == FILES[name]["macs"]["torch_flop_counter_half"]


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_raw_outputs(name, run, predicted, reference):
    found = predicted(name, tuple(run["input_shape"]))
    assert reference.error(run["outputs"]["scores"], found.scores) <= 1
    assert reference.error(run["outputs"]["boxes"], found.boxes) <= 1
    # theirs were made in float32, but are nearer than they had to be
    assert reference.error(run["outputs"]["anchors"], found.anchors[None]) <= 1


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_detections(name, run, filled, predicted, reference):
    assert {**filled(name).limits._asdict()} == {
        "threshold": FILES[name]["inference"]["conf_threshold"],
        "per_class": FILES[name]["inference"]["top_k"],
        "per_image": FILES[name]["inference"]["objects_per_image"],
        "overlap": FILES[name]["inference"]["nms_iou_threshold"],
    }
    found = filled(name).postprocess(predicted(name, tuple(run["input_shape"])))
    for image, detections in enumerate(found):
        for part, values in detections._asdict().items():
            entry = run["outputs"][f"detections.{image}.{part}"]
            assert reference.error(entry, values) <= 1


@pytest.mark.parametrize(
    ("backbone", "given", "parameters", "entries"),
    [
        ("mobilevit_small", {}, 5_738_826, 394),
        ("mobilevit_x_small", {}, 2_742_042, None),
        ("mobilevit_xx_small", {}, 1_755_050, None),
        ("mobilevit_v2_2.0", {}, 19_108_755, 358),
        ("mobilevit_v3_small", {}, 5_547_882, None),
        ("mobilevit_v3_x_small", {}, 2_666_938, None),
        ("mobilevit_v3_xx_small", {}, 1_533_450, None),
        ("mobilevit_v3_2.0", {}, 20_059_027, None),
        ("resnet50", {"anchors": FOUR, "proj_channels": (512, 1024, 512, 256)}, 28_537_336, 392),
    ],
)
def test_parameter_counts(backbone, given, parameters, entries):
    with on_meta():
        network = make(backbone, **given)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert entries is None or len(network.state_dict()) == entries


# --- levels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strides", "levels", "extra"),
    [
        ((8, 16, 32, 64), ("l3", "l4", "l5"), ["os_64"]),
        ((8, 32, -1), ("l3", "l5"), ["os_-1"]),
        ((16,), ("l4",), []),
        ((32, 64, 128, 256, 512, -1), ("l5",), ["os_64", "os_128", "os_256", "os_512", "os_-1"]),
    ],
)
@pytest.mark.parametrize("use_fpn", [False, True])
def test_levels_follow_the_strides(strides, levels, extra, use_fpn):
    options = SSDAnchorOptions(output_strides=strides, aspect_ratios=((2.0,),) * len(strides))
    network = make(anchors=options, classes=3, proj_channels=(24,), use_fpn=use_fpn)
    assert tuple(network.encoder.channels) == levels
    assert list(network.extra_layers) == extra
    output = network.eval()(torch.rand(1, 3, 64, 96))
    sides = [(1, 1) if s == -1 else (-(-64 // s), -(-96 // s)) for s in strides]
    count = sum(4 * height * width for height, width in sides)
    assert output.scores.shape == (1, count, 3) and output.boxes.shape == (1, count, 4)
    assert output.anchors.shape == (count, 4)


@pytest.mark.parametrize(
    ("strides", "message"),
    [
        ((64, 128), "64 cannot stand first"),
        ((-1,), "-1 cannot stand first"),
        ((16, 64), "64 cannot stand after 16"),
        ((32, 16), "16 cannot stand after 32"),
        ((16, 16), "16 cannot stand after 16"),
        ((32, 128), "128 cannot stand after 32"),
        ((16, -1, 32), "32 cannot stand after -1"),
        ((16, 32, 48), "48 cannot stand after 32"),
    ],
)
def test_strides_that_cannot_be_made(strides, message):
    options = SSDAnchorOptions(output_strides=strides, aspect_ratios=((2.0,),) * len(strides))
    with pytest.raises(UserError, match=f"anchor_generator.ssd.output_strides: {message}"):
        make(anchors=options)


def test_a_backbone_that_lacks_a_level():
    encoder = cvnets.create_model("mobilevit_xx_small").as_backbone(["l3", "l4"])
    message = "output_strides: 32 is the level l5, which the backbone MobileViT does not have; it"
    with pytest.raises(UserError, match=re.escape(message)):
        make(encoder)


@pytest.mark.parametrize(("output_stride", "sizes"), [(16, (4, 4, 2)), (8, (8, 8, 4))])
def test_dilated_backbones(output_stride, sizes):
    """The maps are larger, and so are the cells of the anchors more."""
    strides = (16, 32, 64)
    options = SSDAnchorOptions(output_strides=strides, aspect_ratios=((2.0,),) * 3)
    network = make(anchors=options, output_stride=output_stride, classes=3, proj_channels=(24,))
    output = network.eval()(torch.rand(1, 3, 64, 64))
    assert len(output.anchors) == sum(4 * size**2 for size in sizes)
    firsts = [output.anchors[0], output.anchors[4 * sizes[0] ** 2]]
    assert [float(first[0]) for first in firsts] == [0.5 / size for size in sizes[:2]]
    assert firsts[1][2] > firsts[0][2]  # a level keeps its scale, whatever its stride


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (96, 40), (224, 192)])
@pytest.mark.parametrize("backbone", ["mobilevit_xx_small", "mobilevit_v2_0.5", "mobilenetv2_1.0"])
def test_any_image_size(backbone, size):
    network = make(backbone, classes=3, use_fpn=size[0] == 33).eval()
    with torch.no_grad():
        output = network(torch.rand(2, 3, *size))
    assert output.scores.shape == (2, len(output.anchors), 3)
    assert all(tensor.isfinite().all() for tensor in output)


# --- options -------------------------------------------------------------------------------------


def test_what_is_registered():
    assert DETECTORS["ssd"].sections == {"ssd": SSDOptions}
    assert SSDOptions().proj_channels == (512, 512, 512, 512)


def test_widths_beyond_the_list_are_128():
    network = make(classes=3, proj_channels=(40, 24), use_fpn=False)
    widths = [head.loc_cls_layer for head in network.ssd_heads[:-1]]
    assert [layer.dw_conv.block.conv.in_channels for layer in widths] == [40, 24, 128, 128, 128]
    assert network.ssd_heads[-1].loc_cls_layer.block.conv.in_channels == 128


def test_widths_that_have_no_level():
    with pytest.raises(UserError, match=r"ssd.proj_channels: 4 numbers for the 3 levels"):
        make(anchors=SMALL, proj_channels=(1, 2, 3, 4))
    default = SSDOptions().proj_channels  # nobody asked for these
    assert len(make(anchors=SMALL, proj_channels=default).ssd_heads) == 3


@pytest.mark.parametrize(
    "given",
    [
        {"proj_channels": (0,)},
        {"conf_threshold": 1.0},
        {"top_k": 0},
        {"objects_per_image": 0},
        {"nms_iou_threshold": 1.1},
        {"fpn_out_channels": 0},
    ],
)
def test_options_that_cannot_be(given):
    with pytest.raises(ValidationError, match=next(iter(given))):
        SSDOptions(**given)


@pytest.mark.parametrize("use_fpn", [False, True])
def test_every_parameter_gets_a_gradient(use_fpn):
    network = small(use_fpn=use_fpn, fpn_out_channels=16).train()
    output = network(torch.rand(2, 3, 64, 64))
    (output.scores.square().sum() + output.boxes.square().sum()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_start_values():
    """New layers start as the style says, the backbone as it comes."""
    encoder = cvnets.create_model("mobilevit_v2_0.5")
    before = copy.deepcopy(encoder.state_dict())
    style = LayerStyle(layer=LayerOptions(conv_init="normal", conv_init_std_dev=0.5))
    network = make(encoder, anchors=SMALL, style=style, use_fpn=True, proj_channels=(24,))
    for key, value in network.encoder.state_dict().items():
        assert torch.equal(value, before[key])
    for layers in (network.extra_layers, network.fpn, network.ssd_heads):
        convs = [m for m in layers.modules() if isinstance(m, nn.Conv2d)]
        convs = [conv for conv in convs if not conv.is_projection]
        assert all(0.4 < float(conv.weight.detach().std()) < 0.6 for conv in convs)
        biases = [p for name, p in layers.named_parameters() if name.endswith("conv.bias")]
        assert not any(bias.any() for bias in biases)


def test_feature_pyramid_by_hand():
    """Ones everywhere: each 1x1 sums up its channels, each 3x3 nine times the pyramid's."""
    style = LayerStyle()
    pyramid = FeaturePyramid({"fine": 3, "coarse": 2}, 2, style=style).eval()
    for name, value in pyramid.named_parameters():
        nn.init.constant_(value, 0.0 if name.endswith("bias") else 1.0)
    norm = (1 + 1e-5) ** -0.5
    fine, coarse = torch.zeros(1, 3, 5, 4), torch.full((1, 2, 1, 1), 7.0)
    found = pyramid([fine, coarse])
    at_coarse = 14 * norm * 2 * norm  # nine places, of which one is not padding
    assert torch.allclose(found[1], torch.full((1, 2, 1, 1), at_coarse))
    assert torch.allclose(found[0][:, :, 2, 2], torch.tensor(at_coarse * 18 * norm))
    assert found[0].shape == (1, 2, 5, 4)


# --- running -------------------------------------------------------------------------------------


def test_detections_do_not_depend_on_the_batch(filled, reference):
    network, images = filled("mobilevit_xx_small"), reference.images([3, 3, 96, 64])
    with torch.no_grad():
        together = network.detect(images)
        for image, expected in zip(images, together, strict=True):
            (alone,) = network.detect(image[None])
            assert len(alone.scores) > 50
            assert torch.equal(alone.labels, expected.labels)
            torch.testing.assert_close(alone.scores, expected.scores, rtol=1e-9, atol=0)
            torch.testing.assert_close(alone.boxes, expected.boxes, rtol=1e-9, atol=1e-12)


def test_limits_come_from_the_options():
    network = small(conf_threshold=0.3, top_k=2, objects_per_image=3, nms_iou_threshold=0.9)
    generator = torch.Generator().manual_seed(0)
    anchors = network.anchors([(4, 4), (2, 2), (1, 1)], dtype=torch.float32, device="cpu")
    output = DetectionOutput(
        torch.randn(1, len(anchors), 4, generator=generator) * 2,
        torch.randn(1, len(anchors), 4, generator=generator),
        anchors,
    )
    (found,) = network.postprocess(output)
    assert len(found.scores) == 3 and found.labels.bincount().max() <= 2
    assert small(conf_threshold=0.999).postprocess(output)[0].scores.shape == (0,)
    assert not found.boxes.requires_grad


def test_mixed_precision():
    """Predictions in bfloat16, anchors and all that follows in float32."""
    torch.manual_seed(0)
    network = small().eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = network(images)
        found = network.postprocess(output)
    assert (output.scores.dtype, output.boxes.dtype) == (torch.bfloat16,) * 2
    assert output.anchors.dtype == torch.float32
    exact = DetectionOutput(output.scores.float(), output.boxes.float(), output.anchors)
    for one, other in zip(found, network.postprocess(exact), strict=True):
        assert len(one.scores) and one.scores.dtype == one.boxes.dtype == torch.float32
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_evaluating_first_does_not_spoil_training():
    network = small()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        network.eval().detect(images)
    output = network.train()(images)
    decoded = network.matcher.decode(output.boxes, output.anchors)
    (decoded.sum() + output.scores.sum()).backward()
    assert copy.deepcopy(network).eval()(images).anchors.equal(output.anchors)
