"""MobileViT v2 against the official figures, timm, and hand-made cases."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import cvnets
from config.errors import UserError
from cvnets.layers.linear_attention import LinearSelfAttention
from cvnets.layers.norm import ChannelLayerNorm
from cvnets.weights.dialects import DIALECTS

FIGURES = "classification/mobilevit_v2_0.5"


@pytest.fixture(scope="module")
def narrow(reference):
    return reference.fill(cvnets.create_model("mobilevit_v2_0.5"))


# --- the official figures ------------------------------------------------------------------------


def test_names_shapes_and_order_are_the_official_ones(reference):
    network = cvnets.create_model("mobilevit_v2_0.5")
    own = [(key, list(value.shape)) for key, value in network.state_dict().items()]
    assert own == list(reference.figures(FIGURES)["state"].items())


@pytest.mark.parametrize("size", ["256x256", "224x192", "250x250", "232x168"])
def test_outputs_are_the_official_ones(reference, narrow, size):
    figures = reference.figures(FIGURES)
    cases = {
        "x".join(map(str, c["input_shape"][2:])): c for c in (figures, *figures["extra_inputs"])
    }
    outputs, images = cases[size]["outputs"], reference.images(cases[size]["input_shape"])
    with torch.no_grad():
        found = {f"out_{level}": maps for level, maps in narrow.features(images).items()}
        found["logits"] = narrow(images)
    assert set(found) == set(outputs)
    assert {k: v for k, v in found.items() if reference.error(outputs[k], v) > 1} == {}


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("mobilevit_v2_0.5", "segmentation/deeplabv3_mobilevit_v2_0.5_os16"),
        ("mobilevit_v2_1.0", "segmentation/pspnet_mobilevit_v2_1.0_os16"),
    ],
)
def test_dilated_encoder_gives_the_official_maps(reference, name, figures):
    figures = reference.figures(figures)
    network = cvnets.create_model(name, output_stride=16).as_backbone(["l3", "l4", "l5"])
    reference.fill(network, prefix="encoder.")
    official = [key for key in figures["state"] if key.startswith("encoder.")]
    assert [f"encoder.{key}" for key in network.state_dict()] == official
    for case in (figures, *figures["extra_inputs"]):
        with torch.no_grad():
            found = network.features(reference.images(case["input_shape"]))
        for level, maps in found.items():
            assert reference.error(case["outputs"][f"encoder.out_{level}"], maps) <= 1, level


@pytest.mark.parametrize(
    ("width", "parameters"),
    [
        (0.5, 1_370_593),
        (0.75, 2_866_009),
        (1.0, 4_901_841),
        (1.25, 7_478_089),
        (1.5, 10_594_753),
        (1.75, 14_251_833),
        (2.0, 18_449_329),
    ],
)
def test_sizes_are_the_official_ones(width, parameters):
    with torch.device("meta"):
        network = cvnets.create_model(f"mobilevit_v2_{width}")
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(network.state_dict()) == 269


@pytest.mark.parametrize(("size", "figure"), [(256, ""), (224, "_224")])
def test_multiply_accumulates_are_the_official_ones(reference, size, figure):
    with torch.device("meta"):
        network = cvnets.create_model("mobilevit_v2_0.5").eval()
        images = torch.rand(1, 3, size, size)
    with FlopCounterMode(display=False) as counter:
        network(images)
    official = reference.figures(FIGURES)["macs"][f"torch_flop_counter_half{figure}"]
    assert counter.get_total_flops() // 2 == official


# --- timm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0])
def test_logits_equal_those_of_timm(reference, width):
    timm = pytest.importorskip("timm")
    network = reference.fill(cvnets.create_model(f"mobilevit_v2_{width}"))
    peer = timm.create_model(f"mobilevitv2_{100 * width:03.0f}").double().eval()
    (to_timm,) = (d for d in DIALECTS["mobilevit_v2"] if d.library == "timm")
    peer.load_state_dict(to_timm.write(network.state_dict()))
    for size in ((96, 64), (75, 90)):  # even maps, then odd ones in every stage
        images = reference.images([2, 3, *size])
        with torch.no_grad():
            expected = peer(images)
            assert (network(images) - expected).abs().max() < 1e-10 * expected.std()


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.01, 0.33, 1.1, 3.0])
def test_any_positive_width_makes_a_network(width):
    with torch.device("meta"):
        network = cvnets.create_model("mobilevit_v2", width_multiplier=width)
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 1000)
    assert all(channels % 8 == 0 for channels in network.channels.values())


@pytest.mark.parametrize("width", [0.0, -0.5, float("inf"), float("nan")])
def test_widths_that_are_no_size_are_refused(width):
    with pytest.raises(UserError, match="mobilevit_v2: width_multiplier: Input should be"):
        cvnets.create_model("mobilevit_v2", width_multiplier=width)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("layer_norm_2d", nn.GroupNorm),
        ("layer_norm", ChannelLayerNorm),
        ("batch_norm", nn.BatchNorm2d),
    ],
)
def test_the_norm_of_the_transformer(name, kind):
    network = cvnets.create_model("mobilevit_v2_0.5", attn_norm_layer=name)
    for layer, depth in ((3, 2), (4, 4), (5, 3)):
        blocks = network.get_submodule(f"layer_{layer}.1.global_rep")
        assert type(blocks[depth]) is kind
        for block in blocks[:depth]:
            assert [type(block.pre_norm_attn[0]), type(block.pre_norm_ffn[0])] == [kind, kind]
    assert network(torch.rand(2, 3, 64, 64)).isfinite().all()
    with pytest.raises(UserError, match="attn_norm_layer: Input should be 'layer_norm_2d'"):
        cvnets.create_model("mobilevit_v2", attn_norm_layer="group_norm")


def test_dropouts_stand_where_the_names_say():
    network = cvnets.create_model(
        "mobilevit_v2_0.5", attn_dropout=0.1, ffn_dropout=0.2, dropout=0.3, classifier_dropout=0.4
    )
    rates = {name: m.p for name, m in network.named_modules() if isinstance(m, nn.Dropout)}
    for layer, depth in ((3, 2), (4, 4), (5, 3)):
        for index in range(depth):
            block = f"layer_{layer}.1.global_rep.{index}"
            assert rates.pop(f"{block}.pre_norm_attn.2") == 0.3
            assert rates.pop(f"{block}.pre_norm_ffn.2") == 0.2
            assert rates.pop(f"{block}.pre_norm_ffn.4") == 0.3
    assert rates == {"classifier.dropout": 0.4}
    assert {m.dropout for m in network.modules() if isinstance(m, LinearSelfAttention)} == {0.1}
    plain = cvnets.create_model("mobilevit_v2_0.5")
    assert [name for name, _ in plain.classifier.named_children()] == ["global_pool", "1"]
    assert list(network.state_dict()) == list(plain.state_dict())


# --- sizes and layouts ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 1), (70, 40)])
def test_any_image_size(narrow, size):
    """Each level halves the map, rounding up; from l3 on to an even number."""
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        maps = narrow.features(images)
        assert narrow(images).shape == (2, 1000)
    sides = size
    for level in ("l1", "l2", "l3", "l4", "l5"):
        sides = [-(-side // 2) for side in sides]
        if level not in ("l1", "l2"):
            sides = [side + side % 2 for side in sides]
        assert maps[level].shape == (2, narrow.channels[level], *sides)


def test_memory_layout_does_not_matter(narrow, reference):
    images = reference.images([2, 3, 64, 90])
    with torch.no_grad():
        expected = narrow(images)
        found = narrow(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
