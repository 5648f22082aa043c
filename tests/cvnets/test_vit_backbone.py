"""ViT at any size and output stride, and as a backbone with and without the learnt pyramid."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

import cvnets
from config.errors import UserError

LEVELS = ["l2", "l3", "l4", "l5", "l5_exp"]


@pytest.fixture(scope="module")
def tiny(reference):
    return reference.fill(cvnets.create_model("vit_tiny"))


def called(module):
    """A list that fills with what `module` gives."""
    results = []
    module.register_forward_hook(lambda *call: results.append(call[2]))
    return results


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 1), (70, 40)])
@pytest.mark.parametrize("output_stride", [None, 8, 16])
def test_any_image_size(size, output_stride):
    with torch.device("meta"):
        network = cvnets.create_model("vit_tiny", n_classes=7, output_stride=output_stride)
        images = torch.rand(2, 3, *size)
        maps = network.features(images)
        assert network(images).shape == (2, 7)
    assert list(maps) == list(network.channels) == list(network.strides) == LEVELS
    for level, stride in zip(LEVELS, (4, 8, 16, 32, 32), strict=True):
        stride = min(stride, output_stride or 32)
        assert network.strides[level] == stride
        assert maps[level].shape == (2, 192, *(-(-side // stride) for side in size))


def test_incomplete_patches_are_completed_by_zeros(tiny, reference):
    images = reference.images([2, 3, 33, 47])
    with torch.no_grad():
        torch.testing.assert_close(tiny(images), tiny(F.pad(images, (0, 1, 0, 15))))
        cut, whole = tiny.features(images), tiny.features(F.pad(images, (0, 1, 0, 15)))
    for level, value in cut.items():
        height, width = value.shape[2:]
        torch.testing.assert_close(value, whole[level][:, :, :height, :width])


def test_output_stride_8_puts_a_token_between_any_two(tiny, reference):
    images = reference.images([1, 3, 64, 96])
    dense = cvnets.create_model("vit_tiny", output_stride=8).double().eval()
    dense.load_state_dict(tiny.state_dict())
    with torch.no_grad():
        plain, finer = tiny.patch_emb(images), dense.patch_emb(images)
        assert finer.shape == (1, 192, 8, 12)
        torch.testing.assert_close(finer[:, :, ::2, ::2], plain)
        maps = dense.features(images)
    assert torch.equal(maps["l3"], maps["l5"])
    assert not torch.equal(finer[:, :, 1::2, 1::2], plain)


def test_output_strides_that_do_not_exist_are_refused():
    with pytest.raises(UserError, match="output_stride: 12 is not possible"):
        cvnets.create_model("vit_tiny", output_stride=12)


# --- as a backbone -------------------------------------------------------------------------------


def test_maps_are_the_tokens_in_their_places_and_resampled(tiny, reference):
    images = reference.images([2, 3, 64, 96])
    tokens = called(tiny.post_transformer_norm)
    with torch.no_grad():
        maps = tiny.features(images)
    assert maps["l4"].shape == (2, 192, 4, 6)
    for row, column in ((0, 0), (1, 4), (3, 5)):
        assert torch.equal(maps["l4"][:, :, row, column], tokens[0][:, 1 + row * 6 + column])
    finer = F.interpolate(maps["l4"], scale_factor=2, mode="bilinear")
    torch.testing.assert_close(maps["l3"], finer)
    pooled = maps["l4"].unflatten(3, (3, 2)).unflatten(2, (2, 2)).mean((3, 5))
    torch.testing.assert_close(maps["l5"], pooled)
    assert torch.equal(maps["l5_exp"], maps["l5"])
    assert maps["l2"].shape == (2, 192, 16, 24)


@pytest.mark.parametrize("options", [{}, {"use_simple_fpn": True}, {"no_cls_token": True}])
@pytest.mark.parametrize("levels", [["l2"], ["l3", "l4", "l5"], ["l4"], ["l5_exp"]])
def test_every_parameter_of_a_backbone_is_used(options, levels):
    backbone = cvnets.create_model("vit_tiny", **options).as_backbone(levels)
    maps = backbone.features(torch.rand(1, 3, 64, 64))
    assert list(maps) == list(backbone.channels) == list(backbone.strides) == levels
    torch.stack([value.square().sum() for value in maps.values()]).sum().backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []
    with pytest.raises(RuntimeError, match=r"cut by as_backbone.*use features"):
        backbone(torch.rand(1, 3, 64, 64))


def test_a_backbone_is_the_network_without_its_classifier(tiny, reference):
    images = reference.images([1, 3, 64, 64])
    network = copy.deepcopy(tiny)
    names = list(network.state_dict())
    backbone = network.as_backbone(["l5", "l3"])
    assert backbone is network
    assert list(network.state_dict()) == [n for n in names if not n.startswith("classifier.")]
    with torch.no_grad():
        cut, whole = backbone.features(images), tiny.features(images)
    assert list(cut) == ["l3", "l5"]
    assert all(torch.equal(cut[level], whole[level]) for level in cut)
    with pytest.raises(ValueError, match=r"ViT has the levels l2, .*; asked for: l1"):
        tiny.features(images, levels=["l1"])


def test_simple_pyramid_is_that_of_the_paper(reference):
    """Every level recomputed from the weights, layer by layer."""
    network = cvnets.create_model("vit_tiny", use_simple_fpn=True).double()
    classes = cvnets.create_model("vit_tiny").state_dict()
    assert list(network.state_dict()) == list(classes)  # a classifier has no pyramid
    with pytest.raises(RuntimeError, match="the learnt pyramid comes with as_backbone"):
        network.features(torch.rand(1, 3, 64, 64))
    backbone = network.as_backbone(["l2", "l3", "l4", "l5"])
    assert set(backbone.channels.values()) == {256}
    assert next(backbone.simple_fpn.parameters()).dtype == torch.float64
    reference.fill(backbone)
    images = reference.images([2, 3, 64, 96])
    tokens = called(backbone.post_transformer_norm)
    with torch.no_grad():
        maps = backbone.features(images)
    native = tokens[0][:, 1:].transpose(1, 2).unflatten(2, (4, 6))
    pyramid = backbone.simple_fpn

    def norm(value, layer):
        mean, var = value.mean(1, keepdim=True), value.var(1, keepdim=True, unbiased=False)
        scaled = (value - mean) / (var + 1e-6).sqrt()
        return scaled * layer.weight[:, None, None] + layer.bias[:, None, None]

    def finish(value, layers):
        value = norm(F.conv2d(value, layers[0].weight), layers[1])
        return norm(F.conv2d(value, layers[2].weight, padding=1), layers[3])

    def double(value, layer):
        return F.conv_transpose2d(value, layer.weight, layer.bias, stride=2)

    once, twice = pyramid["l3"], pyramid["l2"]
    expected = {
        "l2": finish(double(F.gelu(norm(double(native, twice[0]), twice[1])), twice[3]), twice[4:]),
        "l3": finish(double(native, once[0]), once[1:]),
        "l4": finish(native, pyramid["l4"]),
        "l5": finish(F.max_pool2d(native, 2), pyramid["l5"][1:]),
    }
    for level, value in expected.items():
        torch.testing.assert_close(maps[level], value, msg=level)


@pytest.mark.parametrize("output_stride", [None, 8, 16])
def test_simple_pyramid_has_the_strides_stated(output_stride):
    network = cvnets.create_model("vit_tiny", use_simple_fpn=True, output_stride=output_stride)
    backbone = network.as_backbone(["l2", "l3", "l5", "l5_exp"])
    assert list(backbone.simple_fpn) == ["l2", "l3", "l5"]
    maps = backbone.eval().features(torch.rand(1, 3, 80, 33))
    for level, value in maps.items():
        stride = backbone.strides[level]
        assert value.shape == (1, 256, -(-80 // stride), -(-33 // stride))
