"""The table of published weights: its form, and what it says against figures typed in from elsewhere."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

import cvnets
from config.errors import UserError
from cvnets.weights import zoo
from cvnets.weights.zoo import find, find_address, named_weights, read_table

TABLE = Path(zoo.__file__).with_name("zoo.yaml")
HOST = "https://docs-assets.developer.apple.com/ml-research/models/"
SIZES = {"s": "small", "xs": "x_small", "xxs": "xx_small"}


# --- form ----------------------------------------------------------------------------------------


def test_every_published_file_is_there_once():
    files = [w for w in named_weights().values() if w.url]
    assert len({w.url for w in files}) == len(files) == 81
    assert Counter((w.release, w.task) for w in files) == {
        ("cvnets-v0.1", "classification"): 5,
        ("cvnets-v0.1", "detection"): 3,
        ("cvnets-v0.1", "segmentation"): 3,
        ("cvnets-main", "classification"): 3 + 4 + 4 + 2 + 7 + 7 + 3 + 3 + 3 + 1 + 1,
        ("cvnets-main", "detection"): 8,
        ("cvnets-main", "segmentation"): 8 + 6 + 1 + 4 + 5,
    }
    by_hand = Counter(w.task for w in named_weights().values() if not w.url)
    assert by_hand == {"classification": 9, "detection": 6, "segmentation": 8}


def test_some_addresses_as_they_were_published():
    published = {
        "mobilevit_small": "cvnets/classification/mobilevit_s.pt",
        "resnet50_v0.1": "cvnets/classification/resnet50.pt",
        "resnet50": "cvnets-v2/classification/resnet-50.pt",
        "resnet101_adv": "cvnets-v2/classification/advanced/resnet-101-adv.pt",
        "mobilenetv1_1.0": "cvnets-v2/classification/mobilenetv1-1.00.pt",
        "mobilevit_v2_1.5_in21k": (
            "cvnets-v2/classification/mobilevitv2/imagenet21k_to_1k/256x256/mobilevitv2-1.5.pt"
        ),
        "vit_base": "cvnets-v2/examples/vit/classification/vit_base.pt",
        "ssd_resnet50_coco": "cvnets-v2/detection/coco-ssd-resnet-50.pt",
        "deeplabv3_mobilevit_small_pascal_voc": (
            "cvnets-v2/segmentation/pascalvoc/deeplabv3-mobilevitv1.pt"
        ),
        "deeplabv3_mobilevit_small_pascal_voc_v0.1": "cvnets/segmentation/deeplabv3_mobilevit_s.pt",
        "pspnet_mobilevit_v2_0.75_ade20k": (
            "cvnets-v2/segmentation/ade20k/mobilevitv2/pspnet-mobilevitv2-0.75.pt"
        ),
    }
    assert {name: find(name).url for name in published} == {
        name: HOST + path for name, path in published.items()
    }


def test_weights_without_an_address_name_the_page():
    by_hand = [w for w in named_weights().values() if not w.url]
    assert {w.manual for w in by_hand} == {"release page v1.0.0 of the MobileViTv3 repository"}
    assert all(w.model.startswith("mobilevit_v3_") for w in by_hand)


@pytest.mark.parametrize("name", [w.name for w in named_weights().values() if w.url])
def test_the_address_says_the_same_as_the_record(name):
    weights = find(name)
    folder, _, file = weights.url.removeprefix(HOST).rpartition("/")
    old = weights.release == "cvnets-v0.1"
    assert folder.startswith("cvnets/") == old != folder.startswith("cvnets-v2/")
    assert weights.task in folder
    assert ("384" in folder) == weights.name.endswith("_384")
    assert ("21k" in folder) == ("_in21k" in weights.name)
    assert ("adv" in folder) == weights.name.endswith("_adv")
    assert (weights.head or "") == next(
        (h for h in ("ssd", "deeplabv3", "pspnet") if h in file), ""
    )
    if weights.task == "segmentation" and not old:
        assert ("ade20k" in folder, "pascalvoc" in folder) == (
            weights.dataset == "ade20k",
            weights.dataset == "pascal_voc",
        )
    if width := re.search(r"_([\d.]+)$", weights.model):
        written = re.search(r"[-_]([\d.]+)\.pt$", file)
        assert float(written[1] if written else 1.0) == float(width[1])
    elif size := re.search(r"_(x{0,2}s)[_.]", file):
        assert weights.model == f"mobilevit_{SIZES[size[1]]}"


def test_networks_are_ours_and_names_are_made_of_their_parts():
    table = named_weights()
    assert {w.model for w in table.values()} - set(cvnets.list_models()) == set()
    for name, weights in table.items():
        parts = [weights.head, weights.model, weights.dataset] if weights.head else [weights.model]
        start = "_".join(parts)
        assert name.startswith(start)
        suffix = name.removeprefix(start)
        assert suffix in ("", "_v0.1", "_adv", "_384", "_in21k", "_in21k_384")


def test_the_width_of_the_output_belongs_to_the_data_set():
    widths = {(w.dataset, w.n_classes) for w in named_weights().values()}
    assert widths == {("imagenet", 1000), ("coco", 81), ("ade20k", 150), ("pascal_voc", 21)}


def test_keys_are_not_given_twice():
    def check(node):
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(set(keys)) == len(keys), keys
            for _, value in node.value:
                check(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                check(item)

    check(yaml.compose(TABLE.read_text()))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    head: ssd", "    heads: ssd", "heads"),
        ("file: mobilevit_s.pt", "fiel: mobilevit_s.pt", "fiel"),
        ("resize: 288", "resise: 288", "resise"),
        ("file: mobilevit_s.pt", "file: mobilevit_s.zip", "url"),
        ("file: mobilevit_s.pt, ", "", "mobilevit_small needs"),
        ("    channel_order: BGR\n    dataset", "    dataset", "needs a channel_order"),
        ('name: "{model}_384"', 'name: "{model}"', "two files are called mobilevit_v2_0.5"),
        ("expected: 75.07", "expected: 7507", "less than 100"),
    ],
)
def test_a_slip_in_the_table_is_refused(old, new, message):
    text = TABLE.read_text()
    assert old in text
    with pytest.raises((ValidationError, ValueError), match=message):
        read_table(text.replace(old, new, 1))


def test_records_are_frozen():
    with pytest.raises(ValidationError):
        find("mobilevit_small").n_classes = 10
    with pytest.raises(TypeError):
        named_weights()["mine"] = find("mobilevit_small")


# --- what it says --------------------------------------------------------------------------------


def test_channel_order_and_images_are_those_of_the_releases():
    """OpenCV until release 0.1 and what was built on it; sizes by the recipes of each family."""

    def about(name):
        said = find(name).preprocessing
        return said.channel_order, said.resize, said.crop and said.crop[0], said.interpolation

    assert about("mobilevit_small") == ("BGR", 288, 256, "bilinear")
    assert about("resnet50_v0.1") == ("BGR", 256, 224, "bilinear")
    assert about("mobilevit_v3_x_small") == ("BGR", 288, 256, "bilinear")
    assert about("mobilevit_v3_0.75") == ("RGB", 288, 256, "bicubic")
    assert about("mobilevit_v2_2.0") == ("RGB", 288, 256, "bicubic")
    assert about("mobilevit_v2_2.0_384") == ("RGB", 384, 384, "bicubic")
    assert about("mobilevit_v2_2.0_in21k") == ("RGB", 288, 256, "bicubic")
    assert about("mobilevit_v2_2.0_in21k_384") == ("RGB", 384, 384, "bicubic")
    assert about("mobilenetv3_large") == ("RGB", 256, 224, "bilinear")
    assert about("resnet50") == ("RGB", 256, 224, "bilinear")
    assert about("resnet50_adv") == ("RGB", 256, 224, "bicubic")
    assert about("vit_base") == ("RGB", 232, 224, "bilinear")
    assert about("ssd_mobilevit_small_coco") == ("BGR", (320, 320), None, "bilinear")
    assert about("ssd_mobilevit_v2_1.0_coco") == ("RGB", (320, 320), None, "bicubic")
    assert about("ssd_resnet50_coco") == ("RGB", (384, 384), None, "bicubic")
    assert about("deeplabv3_mobilevit_x_small_pascal_voc") == ("BGR", None, None, None)
    assert about("pspnet_mobilevit_v2_1.0_ade20k") == ("RGB", None, None, None)


def test_images_are_only_scaled_to_one_and_bgr_until_the_first_release():
    for weights in named_weights().values():
        said = weights.preprocessing
        assert (said.mean, said.std) == ((0, 0, 0), (1, 1, 1))
        first = weights.release == "cvnets-v0.1"
        built_on_it = weights.model.startswith("mobilevit_v3_") and "small" in weights.model
        assert said.channel_order == ("BGR" if first or built_on_it else "RGB"), weights.name


# family -> what was published, over these widths
WIDTHS = ("0.5", "0.75", "1.0", "1.25", "1.5", "1.75", "2.0")
BY_WIDTH = {
    "mobilevit_v2_{}": (70.18, 75.56, 78.09, 79.65, 80.38, 80.84, 81.17),
    "mobilevit_v2_{}_384": (72.14, 76.98, 79.68, 80.94, 81.50, 82.04, 82.17),
    "mobilevit_v2_{}_in21k": (None, None, None, None, 81.46, 81.94, 82.36),
    "mobilevit_v2_{}_in21k_384": (None, None, None, None, 82.60, 82.93, 83.41),
    "ssd_mobilevit_v2_{}_coco": (21.24, 24.57, 26.47, 27.85, 28.83, 29.52, 30.21),
    "pspnet_mobilevit_v2_{}_ade20k": (31.77, 35.22, 36.57, 38.76, 38.74, 39.82),
    "deeplabv3_mobilevit_v2_{}_ade20k": (31.93, 34.70, 37.06, 38.42, 38.91, 39.53, 40.94),
    "pspnet_mobilevit_v2_{}_pascal_voc": (74.62, 77.44, 78.92, 79.40, 79.93),
    "deeplabv3_mobilevit_v2_{}_pascal_voc": (75.07, None, 78.94, 79.68, 80.30),
    "mobilevit_v3_{}": (72.33, 76.55, 78.64),
    "ssd_mobilevit_v3_{}_coco": (21.8, 25.0, 27.0),
    "deeplabv3_mobilevit_v3_{}_pascal_voc": (76.48, None, 80.04),
    "deeplabv3_mobilevit_v3_{}_ade20k": (33.57, 36.43, 39.13),
}
BY_SIZE = {  # xx_small, x_small, small
    "mobilevit_{}": (69.0, 74.7, 78.3),
    "ssd_mobilevit_{}_coco": (19.9, 24.8, 27.9),
    "mobilevit_v3_{}": (70.98, 76.7, 79.3),
    "mobilevit_v3_{}_fast": (70.23, 76.10, 79.06),
    "ssd_mobilevit_v3_{}_coco": (19.3, 25.6, 27.3),
    "deeplabv3_mobilevit_v3_{}_pascal_voc": (74.04, 78.77, 79.59),
}
SINGLE = {
    "resnet34_adv": 76.91,
    "resnet50_adv": 80.36,
    "resnet101_adv": 81.68,
    "ssd_resnet50_coco": 29.98,
    "deeplabv3_mobilenetv2_1.0_ade20k": 35.20,
    "deeplabv3_mobilevit_xx_small_pascal_voc": 72.8,
    "deeplabv3_mobilevit_x_small_pascal_voc": 77.1,
    "deeplabv3_mobilevit_small_pascal_voc_v0.1": 79.3,
    "deeplabv3_mobilevit_small_pascal_voc": 79.44,
}


def test_figures_are_the_published_ones_and_nothing_else():
    figures = dict(SINGLE)
    sizes = ("xx_small", "x_small", "small")
    for names, families in ((WIDTHS, BY_WIDTH), (sizes, BY_SIZE)):
        for family, values in families.items():
            named = zip(names, values, strict=False)
            figures |= {family.format(n): value for n, value in named if value is not None}
    table = named_weights()
    stated = {name: w.expected[0].value for name, w in table.items() if w.expected}
    assert stated == figures
    metrics = {"classification": "top1", "detection": "coco_map.bbox", "segmentation": "iou"}
    for weights in table.values():
        assert {said.metric for said in weights.expected} <= {metrics[weights.task]}


def test_where_sources_differ_each_is_cited():
    said = {e.source: e.value for e in find("mobilevit_small").expected}
    assert said == {
        "the tables of the release": 78.3,
        "MobileViT, ICLR 2022": 78.4,
        "MMPretrain's evaluation of the same weights": 78.25,
    }
    said = {e.source: e.value for e in find("ssd_mobilevit_small_coco").expected}
    assert said == {"the tables of the release": 27.9, "MobileViT, ICLR 2022": 27.7}


def test_each_licence_names_its_release():
    licences = {w.release: w.licence for w in named_weights().values()}
    assert "ml-cvnets release v0.1" in licences["cvnets-v0.1"]
    assert "non-commercial" in licences["mobilevitv3"]
    assert len({(w.release, w.licence) for w in named_weights().values()}) == 3
    assert all(text.startswith("LicenseRef-") and "\n" not in text for text in licences.values())


# --- asking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("mobilevit_smal", "mobilevit_small"),
        ("mobilevitv2_1.0", "mobilevit_v2_1.0"),
        ("ssd_mobilevit_small", "ssd_mobilevit_small_coco"),
        ("resnet-50", "resnet50"),
    ],
)
def test_an_unknown_name_lists_near_ones(asked, near):
    with pytest.raises(UserError, match=f"no weights are called '{asked}' - did you mean .*{near}"):
        find(asked)


def test_an_address_finds_its_record():
    weights = find("mobilevit_v2_0.5_384")
    assert find_address(weights.url) == weights
    assert find_address(weights.url + "x") is None
