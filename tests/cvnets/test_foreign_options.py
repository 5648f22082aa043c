"""Names, options and preprocessing of networks from timm and torchvision."""

from __future__ import annotations

import copy
import sys

import pytest
import torch

import cvnets
from config.errors import UserError
from cvnets.models.classification import timm_networks, torchvision_networks
from engine.parts import synchronised

timm = pytest.importorskip("timm")

CLASSES = 7
SQUARE = (224, 224)


def test_drop_rates_reach_the_library():
    with torch.device("meta"):
        network = cvnets.create_model(
            "timm/regnety_002", drop_path_rate=0.25, classifier_dropout=0.5
        )
        paths = [m.drop_prob for m in network.modules() if type(m).__name__ == "DropPath"]
        assert max(paths) == pytest.approx(0.25)
        assert network.network.head.drop.p == 0.5
        mobile = cvnets.create_model("torchvision/mobilenet_v2", classifier_dropout=0.5)
        assert mobile.network.classifier[0].p == 0.5
        own = cvnets.create_model("torchvision/mobilenet_v2")
        assert own.network.classifier[0].p == 0.2
        plain = cvnets.create_model("torchvision/resnet18", classifier_dropout=0.0)
    assert plain.channels["l5"] == 512
    with pytest.raises(UserError, match=r"classifier_dropout: torchvision/resnet18 has none"):
        cvnets.create_model("torchvision/resnet18", classifier_dropout=0.1)
    with pytest.raises(UserError, match=r"timm\.drop_path_rate: timm/vgg11 has no drop_path_rate"):
        cvnets.create_model("timm/vgg11", drop_path_rate=0.1)


def test_weights_of_a_library_tell_what_images_they_expect(tmp_path):
    """The library's own file fits below `network`, with the normalisation that it was trained on."""
    theirs = timm.create_model("mixnet_s", num_classes=CLASSES)
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    network = cvnets.create_model("timm/mixnet_s", n_classes=CLASSES)
    report = cvnets.load_weights(network, tmp_path / "w.pt")
    assert (report.library, report.share, report.was_bgr) == ("timm", 1, False)
    about, config = report.preprocessing, theirs.pretrained_cfg
    assert (about.mean, about.std, about.crop) == (config["mean"], config["std"], SQUARE)
    assert about.resize == round(224 / config["crop_pct"])
    fewer = cvnets.create_model("timm/mixnet_s", n_classes=3)
    fresh = cvnets.load_weights(fewer, tmp_path / "w.pt").reinitialised
    assert {entry.why for entry in fresh} == {"another number of classes"}
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network.eval()(images), theirs.eval()(images))


def test_shared_statistics_keep_the_activations_of_timms_norms():
    """torch's own conversion would turn a norm with an activation to a norm without."""
    network = cvnets.create_model("timm/mobilevitv2_050", n_classes=CLASSES)
    kinds = [
        m
        for m in synchronised(copy.deepcopy(network)).modules()
        if isinstance(m, torch.nn.SyncBatchNorm)
    ]
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(kinds) == len(norms) > 0
    active = sum(not isinstance(m.act, torch.nn.Identity) for m in norms if hasattr(m, "act"))
    assert (
        active
        == sum(not isinstance(m.act, torch.nn.Identity) for m in kinds if hasattr(m, "act"))
        > 0
    )


def test_gradient_checkpointing_is_timms_own_or_refused():
    torch.manual_seed(1)
    plain = cvnets.create_model("timm/regnety_002", n_classes=CLASSES).double()
    frugal = copy.deepcopy(plain)
    frugal.gradient_checkpointing = True
    assert frugal.gradient_checkpointing and not plain.gradient_checkpointing
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    ran = []
    for network in (plain, frugal):
        network.network.s3.b1.register_forward_pre_hook(lambda *call, of=network: ran.append(of))
        network(images).square().sum().backward()
    assert [network is frugal for network in ran] == [False, True, True]
    for (key, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-9, atol=1e-11, msg=key)
    with torch.device("meta"):
        others = [cvnets.create_model(name) for name in ("timm/pit_ti_224", "torchvision/resnet18")]
    for network in others:
        network.gradient_checkpointing = False
        with pytest.raises(UserError, match=r"gradient_checkpointing: .* cannot recompute"):
            network.gradient_checkpointing = True


# --- names and preprocessing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm/resnet51", "timm has no network 'resnet51' - did you mean resnet51q or resnet50"),
        (
            "timm/resnet50.a0_in1k",
            "timm has no weights 'resnet50.a0_in1k' - did you mean resnet50.ra_in1k",
        ),
        ("timm/qwen3_vit_88m_enc", "timm/qwen3_vit_88m_enc has no classifier"),
        (
            "torchvision/resnet19",
            "torchvision has no classification network 'resnet19' - .*resnet18",
        ),
        ("torchvision/raft_large", "torchvision has no classification network 'raft_large'"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(name, said):
    with pytest.raises(UserError, match=f"model.classification.name: {said}"):
        cvnets.create_model(name)


def test_a_missing_timm_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="timm is not installed; pip install timm"):
        cvnets.create_model("timm/resnet18")


def test_a_tag_of_weights_chooses_the_same_network():
    with torch.device("meta"):
        tagged = cvnets.create_model("timm/resnet18.a1_in1k")
        assert list(tagged.state_dict()) == list(cvnets.create_model("timm/resnet18").state_dict())
    assert tagged.head == ("network.fc",)


def test_head_names_what_depends_on_the_classes():
    with torch.device("meta"):
        for name in ("timm/crossvit_tiny_240", "timm/vgg11", "torchvision/vit_b_32"):
            few, many = (cvnets.create_model(name, n_classes=count) for count in (3, 5))
            pairs = zip(few.state_dict().items(), many.state_dict().values(), strict=True)
            differing = [key for (key, a), b in pairs if a.shape != b.shape]
            assert differing
            assert all(key.startswith(few.head) for key in differing)
            assert few.as_backbone(["l4"]).head == ()


def test_preprocessing_of_weights():
    resnet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    assert torchvision_networks.preprocessing("resnet50", "IMAGENET1K_V1") == {
        **resnet, "size": SQUARE, "crop_pct": 0.875, "interpolation": "bilinear",
    }  # fmt: skip
    assert torchvision_networks.preprocessing("resnet50")["crop_pct"] == 224 / 232
    assert timm_networks.preprocessing("resnet50.tv_in1k") == {
        **resnet, "size": SQUARE, "crop_pct": 0.875, "interpolation": "bilinear",
    }  # fmt: skip
    assert timm_networks.preprocessing("mobilevit_s")["mean"] == (0.0, 0.0, 0.0)
    assert timm_networks.preprocessing("mobilevit_s")["size"] == (256, 256)
    with pytest.raises(UserError, match="has no weights 'V3' - allowed: DEFAULT, IMAGENET1K_V1"):
        torchvision_networks.preprocessing("resnet50", "V3")


def test_inception_weights_of_torchvision_expect_the_range_from_minus_one_to_one():
    """torchvision transforms ImageNet-normalised images to that range inside the network."""
    from torchvision.models import inception_v3

    with torch.device("meta"):
        theirs = inception_v3(aux_logits=False, init_weights=False, transform_input=True)
    images = torch.rand(2, 3, 8, 8)
    mean, std = (
        torch.tensor(value)[:, None, None]
        for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    expected = theirs._transform_input((images - mean) / std)
    ours = torchvision_networks.preprocessing("inception_v3")
    mean, std = (torch.tensor(ours[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close((images - mean) / std, expected)
