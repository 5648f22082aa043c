"""Every network against the figures of its official implementation.

Multiply-accumulates: test_profile.py.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest
import torch

import cvnets
from cvnets.kinds import CLASSIFIERS
from cvnets.models.classification import VARIANT_NAMES

REFERENCE = Path(__file__).parents[1] / "reference"


def figures_of(task: str) -> dict[str, dict]:
    """File name -> figures, and under "runs" the recorded outputs by image size."""
    figures = {}
    for path in sorted(REFERENCE.glob(f"{task}/*.json")):
        content = json.loads(path.read_text())
        runs = (content, *content["extra_inputs"])
        content["runs"] = {"x".join(map(str, run["input_shape"][2:])): run for run in runs}
        figures[path.stem] = content
    return figures


NETWORKS = figures_of("classification")  # by variant
ENCODERS = {
    name: figures
    for name, figures in figures_of("segmentation").items()
    if any(key.startswith("encoder.out_") for key in figures["outputs"])
}


def runs_of(figures: dict[str, dict]) -> list[tuple[str, str]]:
    return [(name, size) for name in figures for size in figures[name]["runs"]]


@pytest.fixture(scope="module")
def filled(reference):
    """Variant -> the network with the weights of the figures."""
    return functools.cache(lambda name: reference.fill(cvnets.create_model(name)))


@pytest.fixture(scope="module")
def filled_encoder(reference):
    """File name -> the dilated backbone that the file is about, with its weights."""

    @functools.cache
    def make(name):
        _, variant, stride = re.fullmatch(r"([a-z0-9]+)_(.+)_os(\d+)", name).groups()
        network = cvnets.create_model(variant, output_stride=int(stride))
        network.as_backbone(maps_in(ENCODERS[name]["outputs"], "encoder.out_"))
        return reference.fill(network, prefix="encoder.")

    return make


def maps_in(outputs: dict[str, dict], prefix: str) -> dict[str, dict]:
    """Level -> its recorded map."""
    return {k.removeprefix(prefix): v for k, v in outputs.items() if k.startswith(prefix)}


def shapes(network, prefix: str = "") -> list[tuple[str, list[int]]]:
    return [(prefix + key, list(value.shape)) for key, value in network.state_dict().items()]


def wrong(reference, recorded: dict[str, dict], found: dict[str, torch.Tensor]) -> set[str]:
    assert set(found) == set(recorded)
    return {key for key, value in found.items() if reference.error(recorded[key], value) > 1}


# --- classification ------------------------------------------------------------------------------


def test_there_are_figures_of_every_family():
    families = {VARIANT_NAMES[name][0] for name in NETWORKS}
    names = [name for name in CLASSIFIERS.names() if "*" not in name]
    ours = [n for n in names if CLASSIFIERS[n].registered.__module__.startswith("cvnets.")]
    assert families == set(ours)


@pytest.mark.parametrize("name", NETWORKS)
def test_names_shapes_and_order_are_the_official_ones(filled, name):
    assert shapes(filled(name)) == list(NETWORKS[name]["state"].items())


@pytest.mark.parametrize(("name", "size"), runs_of(NETWORKS))
def test_outputs_are_the_official_ones(reference, filled, name, size):
    """Maps and logits of one pass, but for ViT, which has no official maps."""
    network, run = filled(name), NETWORKS[name]["runs"][size]
    images = reference.images(run["input_shape"])
    recorded = maps_in(run["outputs"], "out_")
    with torch.no_grad():
        found = network.features(images) if recorded else {}
        logits = network.classifier(found["l5_exp"]) if recorded else network(images)
    recorded["logits"] = run["outputs"]["logits"]
    assert wrong(reference, recorded, {**found, "logits": logits}) == set()


@pytest.mark.parametrize("name", [n for n in NETWORKS if "out_l5_exp" in NETWORKS[n]["outputs"]])
def test_a_call_classifies_the_last_map(reference, filled, name):
    network, images = filled(name), reference.images([2, 3, 33, 47])
    with torch.no_grad():
        logits = network.classifier(network.features(images)["l5_exp"])
        assert torch.equal(network(images), logits)


# --- dilated encoders ----------------------------------------------------------------------------


def test_there_are_encoders_of_every_version_of_mobilevit():
    assert {re.search(r"mobilevit(_v\d)?", name)[0] for name in ENCODERS} == {
        "mobilevit", "mobilevit_v2", "mobilevit_v3",
    }  # fmt: skip


@pytest.mark.parametrize("name", ENCODERS)
def test_names_shapes_and_order_of_dilated_encoders_are_the_official_ones(filled_encoder, name):
    state = ENCODERS[name]["state"]
    official = [(key, shape) for key, shape in state.items() if key.startswith("encoder.")]
    assert shapes(filled_encoder(name), "encoder.") == official


@pytest.mark.parametrize(("name", "size"), runs_of(ENCODERS))
def test_maps_of_dilated_encoders_are_the_official_ones(reference, filled_encoder, name, size):
    run = ENCODERS[name]["runs"][size]
    with torch.no_grad():
        found = filled_encoder(name).features(reference.images(run["input_shape"]))
    assert wrong(reference, maps_in(run["outputs"], "encoder.out_"), found) == set()


# --- counts --------------------------------------------------------------------------------------


def mobilevit_block(dim: int, ffn: int) -> int:
    """Parameters of one transformer block of MobileViT: two norms, attention, two linear layers."""
    return 2 * 2 * dim + dim * 3 * dim + 3 * dim + dim * dim + dim + 2 * dim * ffn + ffn + dim


def vit(dim: int, depth: int) -> int:
    """Stem, positions, transformer, last norm, classifier (and class token) of ViT."""
    stem = dim // 4
    return (
        (3 * 16 * stem + 2 * stem) + (stem * 4 * stem + 2 * stem) + (stem * 4 * dim + dim)
        + 197 * dim
        + depth * (12 * dim * dim + 13 * dim)
        + 2 * dim
        + 1001 * dim + 1000 - dim
    )  # fmt: skip


# (variant, parameters, entries of the state); a fraction is in millions, as it was published.
COUNTS = [
    ("mobilevit_xx_small", 1_272_024, 311),
    ("mobilevit_x_small", 2_317_848, 311),
    ("mobilevit_small", 5_578_632, 311),
    ("mobilevit_v2_0.5", 1_370_593, 269),
    ("mobilevit_v2_0.75", 2_866_009, 269),
    ("mobilevit_v2_1.0", 4_901_841, 269),
    ("mobilevit_v2_1.25", 7_478_089, 269),
    ("mobilevit_v2_1.5", 10_594_753, 269),
    ("mobilevit_v2_1.75", 14_251_833, 269),
    ("mobilevit_v2_2.0", 18_449_329, 269),
    ("mobilevit_v3_xx_small", 1_249_448, 311),
    ("mobilevit_v3_x_small", 2_490_360, 311),
    ("mobilevit_v3_small", 5_763_912, 311),
    # The fast ones by hand: less two of the four blocks in layer_4.
    ("mobilevit_v3_xx_small_fast", 1_249_448 - 2 * mobilevit_block(80, 160), 287),
    ("mobilevit_v3_x_small_fast", 2_490_360 - 2 * mobilevit_block(120, 240), 287),
    ("mobilevit_v3_small_fast", 5_763_912 - 2 * mobilevit_block(192, 384), 287),
    ("mobilevit_v3_0.5", 1_429_985, 269),
    ("mobilevit_v3_0.75", 2_999_641, 269),
    ("mobilevit_v3_1.0", 5_139_409, 269),
    # By hand: v2's official count, and dim x channels more in each of its three conv_proj.
    ("mobilevit_v3_2.0", 18_449_329 + 256 * 512 + 384 * 768 + 512 * 1024, 269),
    ("mobilenetv1_1.0", 4_231_976, 164),
    ("mobilenetv2_0.25", 1_520_264, 314),
    ("mobilenetv2_0.5", 1_969_448, 314),
    ("mobilenetv2_0.75", 2_636_872, 314),
    ("mobilenetv2_1.0", 3_504_872, 314),
    ("mobilenetv3_small", 2_508_712, 244),
    ("mobilenetv3_large", 5_437_728, 312),
    ("resnet34", 21_790_696, 224),
    ("resnet50", 25_550_056, 326),
    ("resnet101", 44_542_184, 632),
    ("efficientnet_b0", 5_382_440, 360),
    ("efficientnet_b1", 7.92, None),
    ("efficientnet_b2", 9.28, None),
    ("efficientnet_b3", 12.30, None),
    ("efficientnet_b4", 19.57, None),
    ("efficientnet_b5", 30.71, None),
    ("efficientnet_b6", 43.30, None),
    ("efficientnet_b7", 66.53, None),
    ("vit_tiny", 5_618_344, 20 + 12 * 12),
    ("vit_small", 21_944_680, 20 + 12 * 12),
    ("vit_base", 86_724_328, 20 + 12 * 12),
    ("vit_large", vit(1024, 24), 20 + 12 * 24),  # by hand
    ("vit_huge", vit(1280, 32), 20 + 12 * 32),
]


@pytest.mark.parametrize(("name", "parameters", "entries"), COUNTS)
def test_counts_are_the_official_ones(name, parameters, entries):
    with torch.device("meta"):
        network = cvnets.create_model(name)
    count = sum(value.numel() for value in network.parameters())
    assert (round(count / 1e6, 2) if isinstance(parameters, float) else count) == parameters
    assert entries in (None, len(network.state_dict()))


def test_counts_of_vit_by_hand_are_right_where_there_are_official_ones():
    official = [count for name, count, _ in COUNTS if name in ("vit_tiny", "vit_small", "vit_base")]
    assert [vit(dim, 12) for dim in (192, 384, 768)] == official
