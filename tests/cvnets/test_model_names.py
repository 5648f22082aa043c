"""create_model, list_models and what importing cvnets costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import cvnets
from config.errors import UserError
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.style import LayerStyle
from cvnets.models.classification.mobilevit import MobileViTOptions


def test_names_and_patterns():
    assert cvnets.list_models("mobilevit_*small") == [
        "mobilevit_small", "mobilevit_v3_small", "mobilevit_v3_x_small",
        "mobilevit_v3_xx_small", "mobilevit_x_small", "mobilevit_xx_small",
    ]  # fmt: skip
    assert cvnets.list_models("*no such*") == []
    assert set(cvnets.list_models("mobilevit_x*")) < set(cvnets.list_models())
    with torch.device("meta"):
        for name in cvnets.list_models():
            assert cvnets.create_model(name, n_classes=3)(torch.rand(2, 3, 64, 64)).shape == (2, 3)


def test_a_registered_name_with_options_is_the_variant():
    variant = cvnets.create_model("mobilevit_x_small").state_dict()
    named = cvnets.create_model("mobilevit", mode="x_small").state_dict()
    assert {k: v.shape for k, v in named.items()} == {k: v.shape for k, v in variant.items()}


def test_a_registered_class_of_a_user_is_listed(monkeypatch):
    monkeypatch.setattr(CLASSIFIERS, "_entries", dict(CLASSIFIERS._entries))

    @CLASSIFIERS.register("tiny_of_mine")
    class Tiny(nn.Linear):
        def __init__(self, options, *, style, num_classes, classifier_dropout, output_stride):
            super().__init__(3, num_classes)

    assert "tiny_of_mine" in cvnets.list_models()
    assert cvnets.create_model("tiny_of_mine", n_classes=4).out_features == 4


def test_the_family_style_is_the_default():
    def activations(network):
        return {type(m) for m in network.modules() if isinstance(m, nn.ReLU | nn.SiLU)}

    assert activations(cvnets.create_model("mobilevit_xx_small")) == {nn.SiLU}
    assert activations(cvnets.create_model("mobilevit_xx_small", style=LayerStyle())) == {nn.ReLU}


def test_a_new_network_is_initialised():
    torch.manual_seed(0)
    network = cvnets.create_model("mobilevit_small")
    assert network.classifier.fc.weight.std().item() == pytest.approx(0.02, rel=0.02)
    local = network.layer_5[1].local_rep.conv_3x3.block.conv.weight
    assert local.std().item() == pytest.approx((2 / (160 * 9)) ** 0.5, rel=0.02)
    torch.manual_seed(0)
    again = cvnets.create_model("mobilevit_small")
    assert torch.equal(again.layer_5[1].local_rep.conv_3x3.block.conv.weight, local)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "mobilevit_xxsmall",
            {},
            "no model is called 'mobilevit_xxsmall' - did you mean mobilevit_xx_small",
        ),
        ("mobilevit_small", {"head_dims": 8}, "has no option 'head_dims' - did you mean head_dim?"),
        (
            "mobilevit",
            {"mode": "large"},
            "mobilevit: mode: Input should be 'xx_small'.*not 'large'",
        ),
        ("mobilevit", {"dropout": 1.5}, "mobilevit: dropout: Input should be less than 1, not 1.5"),
        ("mobilevit_small", {"mode": "x_small"}, "fixes mode: build mobilevit to choose it"),
        ("mobilevit_small", {"n_classes": 0}, "n_classes is 0; at least one class is needed"),
    ],
)
def test_mistakes_are_explained_in_one_line(name, options, message):
    with pytest.raises(UserError, match=message) as error:
        cvnets.create_model(name, **options)
    assert "\n" not in str(error.value)


def test_the_component_is_built_without_a_recipe():
    entry = CLASSIFIERS["mobilevit"]
    network = entry.component(MobileViTOptions(mode="xx_small"), style=LayerStyle(), num_classes=2)
    assert network(IMAGES).shape == (2, 2)
    assert entry.sections == {"mit": MobileViTOptions}


IMAGES = torch.rand(2, 3, 32, 32)


def test_importing_stays_light():
    heavy = "torchvision", "timm", "cv2", "matplotlib", "tensorboard", "pycocotools"
    code = (
        f"import sys, cvnets; print([m for m in {heavy!r} if m in sys.modules], cvnets.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] 0.1.0"
