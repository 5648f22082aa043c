"""ViT against torchvision and hand-made cases."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

import cvnets
from config.errors import UserError
from cvnets.models.classification import vit


@pytest.fixture(scope="module")
def tiny(reference):
    return reference.fill(cvnets.create_model("vit_tiny"))


def called(module):
    """A list that fills with what `module` gives."""
    results = []
    module.register_forward_hook(lambda *call: results.append(call[2]))
    return results


def positions(network, rows, columns):
    """What the position embedding adds to the tokens of a grid: [rows, columns, dim]."""
    tokens = torch.zeros(1, rows * columns, 192)
    with torch.no_grad():
        added = network.pos_embed["pos_embed"](tokens, (rows, columns))
    return added.unflatten(1, (rows, columns))[0]


# --- torchvision ---------------------------------------------------------------------------------


def torchvision_twin(network):
    """The same network built of torchvision's VisionTransformer, whose stem ends with one
    convolution more: here an identity."""
    from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

    def gelu(inplace):
        return nn.GELU()

    stem = [
        ConvStemConfig(48, 4, 4, activation_layer=gelu),
        ConvStemConfig(48, 2, 2, activation_layer=gelu),
        ConvStemConfig(192, 2, 2, norm_layer=None, activation_layer=None),
    ]
    peer = VisionTransformer(224, 16, 12, 3, 192, 768, conv_stem_configs=stem).double().eval()
    theirs = {
        "cls_token": "class_token",
        "post_transformer_norm": "encoder.ln",
        "classifier": "heads.head",
    }
    for i in range(3):
        theirs[f"patch_emb.{i}.block.conv"] = f"conv_proj.conv_bn_relu_{i}.0"
        theirs[f"patch_emb.{i}.block.norm"] = f"conv_proj.conv_bn_relu_{i}.1"
    for i in range(12):
        ours, block = f"transformer.{i}.pre_norm_", f"encoder.layers.encoder_layer_{i}."
        theirs[f"{ours}mha.0"] = f"{block}ln_1"
        theirs[f"{ours}mha.1.out_proj"] = f"{block}self_attention.out_proj"
        theirs[f"{ours}ffn.0"] = f"{block}ln_2"
        theirs[f"{ours}ffn.1"] = f"{block}mlp.0"
        theirs[f"{ours}ffn.4"] = f"{block}mlp.3"
    state = {
        "conv_proj.conv_last.weight": torch.eye(192)[:, :, None, None],
        "conv_proj.conv_last.bias": torch.zeros(192),
    }
    for key, value in network.state_dict().items():
        module, _, leaf = key.rpartition(".")
        if key == "pos_embed.pos_embed.pos_embed":
            state["encoder.pos_embedding"] = F.pad(value[0], (0, 0, 1, 0))
        elif module.endswith("qkv_proj"):
            block = f"encoder.layers.encoder_layer_{module.split('.')[1]}"
            state[f"{block}.self_attention.in_proj_{leaf}"] = value
        else:
            state[theirs[key] if key in theirs else f"{theirs[module]}.{leaf}"] = value
    peer.load_state_dict(state)
    return peer


def test_logits_equal_those_of_torchvision(tiny, reference):
    peer = torchvision_twin(tiny)
    images = reference.images([2, 3, 224, 224])
    with torch.no_grad():
        expected = peer(images)
        assert (tiny(images) - expected).abs().max() < 1e-10 * expected.std()


# --- options -------------------------------------------------------------------------------------


def test_without_class_token_the_mean_of_all_tokens_is_classified(reference):
    network = reference.fill(cvnets.create_model("vit_tiny", no_cls_token=True))
    assert "cls_token" not in network.state_dict()
    tokens = called(network.post_transformer_norm)
    with torch.no_grad():
        logits = network(reference.images([2, 3, 64, 48]))
    assert tokens[0].shape == (2, 12, 192)
    torch.testing.assert_close(logits, network.classifier(tokens[0].mean(1)))


def test_sinusoidal_positions_are_fixed():
    network = cvnets.create_model("vit_tiny", sinusoidal_pos_emb=True)
    assert not [key for key in network.state_dict() if "pos_embed" in key]
    table = positions(network, 14, 14).flatten(0, 1)
    for token, channel in ((0, 0), (3, 0), (7, 51), (195, 190), (100, 191)):
        angle = token / 10000 ** (channel // 2 * 2 / 192)
        expected = math.cos(angle) if channel % 2 else math.sin(angle)
        assert float(table[token, channel]) == pytest.approx(expected, abs=1e-5)


def test_positions_resized_over_the_grid_keep_their_place():
    """A table that grows linearly along rows stays linear along rows, and constant in them."""
    network = cvnets.create_model("vit_tiny", pos_emb_resize="grid")
    table = network.pos_embed["pos_embed"]
    rows = torch.arange(14.0)[:, None, None].expand(14, 14, 192)
    with torch.no_grad():
        table.pos_embed.copy_(rows.reshape(1, 1, 196, 192))
    finer = positions(network, 28, 7)
    row_by_row = torch.arange(28) / 2 - 0.25
    torch.testing.assert_close(finer[1:-1], row_by_row[1:-1, None, None].expand(26, 7, 192))
    assert torch.equal(positions(network, 14, 14), rows)
    table.resize_along = "tokens"
    official = positions(network, 28, 14)
    assert official[1].max() > official[1].min()
    assert torch.equal(positions(network, 14, 14), rows)


def test_norm_layer_chooses_epsilon():
    def epsilons(**options):
        network = cvnets.create_model("vit_tiny", **options)
        return {m.eps for m in network.modules() if isinstance(m, nn.LayerNorm)}

    assert epsilons() == {1e-6}
    assert epsilons(norm_layer="layer_norm_fp32") == {1e-5}
    with pytest.raises(UserError, match="norm_layer"):
        cvnets.create_model("vit_tiny", norm_layer="batch_norm")


def test_dropouts_and_stochastic_depth_stand_where_they_should():
    network = cvnets.create_model(
        "vit_tiny", dropout=0.2, stochastic_dropout=0.11, classifier_dropout=0.4
    )
    rates = {name: m.p for name, m in network.named_modules() if isinstance(m, nn.Dropout)}
    assert rates.pop("token_dropout") == 0.2
    assert rates.pop("classifier_dropout") == 0.4
    for block in range(12):
        for place in ("mha.2", "ffn.3", "ffn.5"):
            assert rates.pop(f"transformer.{block}.pre_norm_{place}") == 0.2
    assert rates == {}
    depths = [(m.p, m.mode) for m in network.modules() if isinstance(m, StochasticDepth)]
    linear = [round(0.01 * block, 6) for block in range(1, 12) for _ in range(2)]
    assert [round(p, 6) for p, _ in depths] == linear
    assert {mode for _, mode in depths} == {"row"}
    plain = cvnets.create_model("vit_tiny")
    assert list(network.state_dict()) == list(plain.state_dict())
    assert not [m for m in plain.modules() if isinstance(m, StochasticDepth)]


def test_use_pytorch_mha_changes_nothing(tiny, reference):
    images = reference.images([1, 3, 48, 64])
    other = reference.fill(cvnets.create_model("vit_tiny", use_pytorch_mha=True))
    with torch.no_grad():
        assert torch.equal(other(images), tiny(images))


@pytest.mark.parametrize(("segments", "parts"), [(1, 1), (5, 5), (40, 12)])
def test_checkpoint_segments_change_nothing_but_memory(monkeypatch, segments, parts):
    torch.manual_seed(4)
    plain = cvnets.create_model(
        "vit_tiny", n_classes=5, dropout=0.1, stochastic_dropout=0.5, checkpoint_segments=segments
    ).double()
    frugal = copy.deepcopy(plain)
    frugal.gradient_checkpointing = True
    lengths = []
    recompute = vit.run_recomputed
    monkeypatch.setattr(
        vit,
        "run_recomputed",
        lambda stage, maps: lengths.append(len(stage)) or recompute(stage, maps),
    )
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    ran = []
    for network in (plain, frugal):
        network.transformer[3].register_forward_pre_hook(lambda *call, of=network: ran.append(of))
        torch.manual_seed(3)
        network(images).square().sum().backward()
    assert [network is frugal for network in ran] == [False, True, True]
    assert (len(lengths), sum(lengths)) == (parts, 12)
    for (key, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-9, atol=1e-11, msg=key)


def test_start_values():
    torch.manual_seed(0)
    network = cvnets.create_model("vit_tiny")
    assert float(network.cls_token.detach().abs().max()) == 0.0
    table = network.pos_embed["pos_embed"].pos_embed
    assert float(table.detach().std()) == pytest.approx(0.02, rel=0.05)
    linear = network.transformer[5].pre_norm_ffn[1].weight
    assert float(linear.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert isinstance(network.transformer[0].pre_norm_ffn[2], nn.GELU)
