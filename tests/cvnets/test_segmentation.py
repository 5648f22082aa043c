"""DeepLabv3 and PSPNet: official figures, parameter counts, heads by hand, several passes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F
from torchvision.models.segmentation import deeplabv3 as peer

import engine
from config.errors import UserError
from cvnets.layers.style import LayerStyle
from cvnets.models.dense import SegmentationOutput, Segmentor, enlarged
from cvnets.models.segmentation import DeepLabV3Options, PSPNet, PSPNetOptions, inference
from cvnets.models.segmentation.inference import Passes, classes_of, segment
from cvnets.modules.aspp import ASPP, PyramidPooling
from cvnets.profile import on_meta
from optim import parameter_groups

REFERENCE = Path(__file__).parents[1] / "reference"
FILES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((REFERENCE / "segmentation").glob("*.json"))
}
RUNS = [
    pytest.param(name, run, id=f"{name}-{'x'.join(map(str, run['input_shape'][2:]))}")
    for name, figures in FILES.items()
    for run in (figures, *figures["extra_inputs"])
]
STYLE = LayerStyle().with_activation("relu")


def make(**values) -> Segmentor:
    """The network of a recipe; keys of `model.segmentation` may go without that."""
    recipe = {"model.segmentation.name": "encoder_decoder", "model.segmentation.n_classes": 21}
    for key, value in values.items():
        recipe[key if key.startswith("model.") else f"model.segmentation.{key}"] = value
    return engine.build_model(engine.load_recipe(recipe))


# --- official figures ----------------------------------------------------------------------------


def test_all_official_files_are_there():
    assert len(FILES) == 5 and len(RUNS) == 10


@pytest.mark.parametrize("name", FILES)
def test_state_and_parameters(name):
    with on_meta():
        network = make(**FILES[name]["config"])
    state = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert list(state.items()) == list(FILES[name]["state"].items())
    assert sum(p.numel() for p in network.parameters()) == FILES[name]["n_params"]


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_outputs(name, run, reference):
    """At 256x256 and at a size that is no multiple of anything; the auxiliary head, too."""
    network = reference.fill(make(**FILES[name]["config"]))
    images = reference.images(run["input_shape"])
    with torch.no_grad():
        found = network(images)
        maps = network.encoder.features(images)
        aux = network.seg_head.auxiliary(maps)
    expected = run["outputs"]
    assert found.aux is None and found.logits.shape[2:] == images.shape[2:]
    assert reference.error(expected["seg_low_res"], found.low_res) <= 1
    # without the size of the images the official result is as large as low_res times the stride
    entry = expected.get("seg_with_orig_size", expected["seg"])
    assert reference.error(entry, enlarged(found.low_res, tuple(entry["shape"][2:]))) <= 1
    assert reference.error(expected["aux"], aux) <= 1
    for level in ("l4", "l5"):
        assert reference.error(expected[f"encoder.out_{level}"], maps[level]) <= 1


V1, V2, V3 = (
    {"model.classification.name": n} for n in ("mobilevit", "mobilevit_v2", "mobilevit_v3")
)
VOC = {"output_stride": 16, "use_aux_head": True, "deeplabv3.aspp_out_channels": 512}
ADE = VOC | {"output_stride": 8, "n_classes": 150}
PSP = {"seg_head": "pspnet"}
OLD = {"output_stride": 16, "deeplabv3.aspp_out_channels": 256}
MODE, WIDTH = "model.classification.mit.mode", "model.classification.mitv2.width_multiplier"


@pytest.mark.parametrize(
    ("values", "parameters", "entries"),
    [
        (V1 | OLD | {MODE: "small"}, 6_357_941, 341),
        (V1 | OLD | {MODE: "x_small"}, 2_944_069, 341),
        (V1 | OLD | {MODE: "xx_small"}, 1_854_853, 341),
        (V3 | OLD | {MODE: "small_v3"}, 7_205_621, None),
        (V3 | OLD | {MODE: "x_small_v3"}, 3_269_669, None),
        (V3 | OLD | {MODE: "xx_small_v3"}, 1_956_309, None),
        (V1 | VOC | {MODE: "small"}, 8_687_690, 349),
        (V2 | VOC | {WIDTH: 1.0}, 13_763_987, 313),
        (V2 | VOC | PSP | {WIDTH: 1.0}, 9_827_731, 307),
        (V2 | ADE | {WIDTH: 1.0}, 13_846_805, None),
        (V2 | ADE | PSP | {WIDTH: 1.0}, 9_910_549, None),
        (ADE | {"model.classification.name": "mobilenetv2"}, 8_087_084, 352),
        (ADE | {"model.classification.name": "resnet"}, 57_701_932, 370),
        (V3 | VOC | {"model.classification.mitv3.width_multiplier": 1.0}, 14_001_555, None),
        (V3 | VOC | PSP | {"model.classification.mitv3.width_multiplier": 1.0}, 10_065_299, None),
        (V3 | ADE | {"model.classification.mitv3.width_multiplier": 1.0}, 14_084_373, None),
        (V3 | ADE | PSP | {"model.classification.mitv3.width_multiplier": 1.0}, 10_148_117, None),
    ],
)
def test_official_parameter_counts(values, parameters, entries):
    with on_meta():
        network = make(**values)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert entries is None or len(network.state_dict()) == entries


@pytest.mark.parametrize("no_decay", [False, True])
def test_official_parameter_groups(no_decay):
    cases = json.loads((REFERENCE / "traces/param_groups.json").read_text())["cases"]
    name = f"deeplabv3_mobilevit_xx_small_lr10_nodecay{no_decay}"
    (case,) = [case for case in cases if case["name"] == name]
    recipe = engine.load_recipe(
        {**FILES["deeplabv3_mobilevit_xx_small_os16"]["config"], **case["config"]}
    )
    from engine.parts import build_task

    task = build_task(recipe)
    network = task.build_model()
    groups = parameter_groups(
        network,
        weight_decay=recipe.optim.weight_decay,
        no_decay_bn_filter_bias=no_decay,
        lr_multipliers=task.lr_multipliers(network),
    )
    assert len(groups) == len(case["groups"]) == (4 if no_decay else 2)
    for group, expected in zip(groups, case["groups"], strict=True):
        assert group["weight_decay"] == expected["weight_decay"]
        assert group["lr_multiplier"] == expected["lr_multiplier"]
        assert len(group["params"]) == expected["n_tensors"]
        assert sum(p.numel() for p in group["params"]) == expected["n_elements"]
        assert group["names"][:3] == expected["first_names"]
        assert group["names"][-1] == expected["last_name"]


# --- parts ---------------------------------------------------------------------------------------


def test_aspp_is_that_of_torchvision():
    """The same weights in the same order; theirs has a dropout behind it."""
    torch.manual_seed(0)
    ours = ASPP(8, 12, (2, 4, 6), separable=False, style=STYLE).double()
    theirs = peer.ASPP(8, [2, 4, 6], 12).double()
    state = zip(theirs.state_dict(), ours.state_dict().values(), strict=True)
    theirs.load_state_dict(dict(state))
    maps = torch.rand(2, 8, 11, 9).double()
    theirs.project[3].p = 0.0
    torch.testing.assert_close(ours(maps), theirs(maps))
    torch.testing.assert_close(ours.eval()(maps), theirs.eval()(maps))


def test_separable_aspp_has_depthwise_convolutions():
    aspp = ASPP(8, 12, (2, 4, 6), separable=True, style=STYLE)
    convs = [m for m in aspp.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [(c.groups, c.dilation[0], c.padding[0]) for c in convs] == [
        (8, r, r) for r in (2, 4, 6)
    ]
    assert "convs.1.dw_conv.block.conv.weight" in aspp.state_dict()
    assert aspp(torch.rand(2, 8, 7, 5)).shape == (2, 12, 7, 5)


def test_pyramid_pooling_by_hand():
    """One grid of one cell: the map and its mean, both through convolutions that hand on."""
    pooling = PyramidPooling(16, 32, (1,), dropout=0.0, style=STYLE).eval()
    branch, fusion = pooling.psp_branches[0][1].block, pooling.fusion[0].block
    nn.init.dirac_(branch.conv.weight)
    nn.init.dirac_(fusion.conv.weight)
    maps = torch.rand(2, 16, 5, 4)
    found = pooling(maps)
    scale = (1 + 1e-5) ** -0.5  # of each batch norm
    torch.testing.assert_close(found[:, :16], maps * scale)
    mean = maps.mean((2, 3), keepdim=True).expand(-1, -1, 5, 4)
    torch.testing.assert_close(found[:, 16:], mean * scale**2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: DeepLabV3Options(aspp_rates=(0, 1, 2)), "aspp_rates"),
        (lambda: DeepLabV3Options(aspp_rates=(1, 2)), "aspp_rates"),
        (lambda: PSPNetOptions(psp_pool_sizes=(0,)), "psp_pool_sizes"),
        (lambda: PSPNetOptions(psp_pool_sizes=()), "psp_pool_sizes"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValidationError, match=message):
        options()


def head(**given):
    context = {"channels": {"l4": 48, "l5": 80}, "level": "l5", "num_classes": 3}
    context |= {"aux_dropout": None, "style": STYLE}
    return PSPNet(PSPNetOptions(**given.pop("options", {})), **context | given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"level": "l5_exp"},
            "reads the level l5_exp, which the backbone does not have; it has l4, l5",
        ),
        ({"aux_dropout": 0.1, "channels": {"l5": 80}}, "reads the level l4, which"),
        (
            {"options": {"psp_pool_sizes": (1, 2, 3, 4, 6, 8)}},
            "psp_pool_sizes: 6 grids of at least 16 channels, but the map l5 has 80; name fewer",
        ),
    ],
)
def test_heads_that_do_not_fit(given, message):
    with pytest.raises(UserError, match=message):
        head(**given)


@pytest.mark.parametrize("kind", ["deeplabv3", "pspnet", "simple_seg_head"])
def test_every_parameter_learns(kind):
    """In training all take part, those of the auxiliary head, too; in evaluation it rests."""
    torch.manual_seed(0)
    network = make(seg_head=kind, use_aux_head=True, use_level5_exp=True, **{MODE: "xx_small"})
    found = network.train()(torch.rand(2, 3, 64, 96))
    assert found.low_res.shape == (2, 21, 2, 3) and found.aux.shape == (2, 21, 4, 6)
    (found.logits.square().sum() + found.aux.square().sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert network.eval()(torch.rand(1, 3, 64, 96)).aux is None


# --- from logits to classes ----------------------------------------------------------------------


def test_classes_do_not_depend_on_how_many_are_enlarged_at_a_time(monkeypatch):
    low_res = torch.randn(2, 7, 4, 5, generator=torch.Generator().manual_seed(1))
    low_res[:, 5] = low_res[:, 2]  # of equal ones the first
    expected = enlarged(low_res, (33, 21)).argmax(dim=1)
    for elements in (1, 2 * 33 * 21 * 3, 2**24):
        monkeypatch.setattr(inference, "_ELEMENTS", elements)
        assert torch.equal(classes_of(low_res, (33, 21)).long(), expected)
    assert (expected == 2).any()


class Colours(Segmentor):
    """Says of each pixel what its own colour says: no context, any size."""

    def forward(self, images):
        return SegmentationOutput(images * 8, None, tuple(images.shape[2:]))


PICTURE = F.interpolate(
    torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(2)), (40, 48), mode="bilinear"
)


@pytest.mark.parametrize(
    "passes",
    [
        Passes(flip=True),
        Passes(window=16),
        Passes(window=16, stride=16),
        Passes(window=24, stride=5, flip=True),
        Passes(window=64),
    ],
)
def test_passes_over_pixels_without_context_change_nothing(passes):
    plain, found = (segment(Colours(), PICTURE, which) for which in (Passes(), passes))
    assert found.size == plain.size
    torch.testing.assert_close(found.logits.exp(), plain.logits.softmax(dim=1))


def test_scales_are_averaged():
    half = F.interpolate(PICTURE, (20, 24), mode="bilinear", antialias=True)
    small = F.interpolate((half * 8).softmax(1), (40, 48), mode="bilinear", align_corners=True)
    expected = ((PICTURE * 8).softmax(1) + small) / 2
    found = segment(Colours(), PICTURE, Passes(scales=(1.0, 0.5)))
    torch.testing.assert_close(found.logits.exp(), expected)


class Sure(Segmentor):
    """So sure of class 0 that the probabilities of the others are 0 in float32."""

    def forward(self, images):
        scores = torch.tensor([60.0, 0.0, -60.0])[None, :, None, None].expand(1, 3, 8, 8)
        return SegmentationOutput(scores, None, tuple(images.shape[2:]))


def test_a_sure_network_stays_sure_in_several_passes():
    output = segment(Sure(), torch.zeros(1, 3, 64, 64), Passes(flip=True))
    assert output.low_res.isfinite().all()
    for size in ((64, 64), (70, 77)):
        assert not classes_of(output.low_res, size).any()


class Sided(Segmentor):
    """Says the left half of what it sees is class 0, the right half class 1: all context."""

    def forward(self, images):
        scores = torch.zeros(len(images), 2, *images.shape[2:])
        scores[:, 0, :, : images.shape[3] // 2] = 5
        scores[:, 1, :, images.shape[3] // 2 :] = 5
        return SegmentationOutput(scores, None, tuple(images.shape[2:]))


def test_mirrored_and_windowed_passes_see_what_they_say():
    images = torch.zeros(1, 3, 8, 32)
    mirrored = segment(Sided(), images, Passes(flip=True)).logits.exp()
    torch.testing.assert_close(mirrored, torch.full_like(mirrored, 0.5))
    windows = classes_of(segment(Sided(), images, Passes(window=8, stride=8)).low_res, (8, 32))
    assert windows[0, 0].tolist() == ([0] * 4 + [1] * 4) * 4
