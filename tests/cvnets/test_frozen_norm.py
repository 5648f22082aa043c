"""Batch norms that nothing changes any more."""

import copy

import pytest
import timm
import torch
from torch import nn

from config.errors import UserError
from cvnets.layers.norm import FrozenBatchNorm, freeze_batch_norms


def network() -> nn.Module:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, eps=1e-3))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), inner)
    for norm in (model[1], inner[1]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return model


def test_it_is_a_batch_norm_in_evaluation_mode_with_the_same_entries():
    model, images = network(), torch.rand(2, 3, 9, 8)
    expected, state = model.eval()(images), copy.deepcopy(model.state_dict())
    freeze_batch_norms(model)
    assert sum(isinstance(module, FrozenBatchNorm) for module in model.modules()) == 2
    torch.testing.assert_close(model.train()(images), expected, rtol=0, atol=0)
    assert list(model.state_dict()) == list(state)
    model.load_state_dict(state)  # files of the network fit as before


def test_activations_inside_the_norms_of_timm_stay():
    torch.manual_seed(0)
    model, images = timm.create_model("mobilenetv3_small_050").eval(), torch.rand(2, 3, 64, 64)
    expected = model(images)
    assert freeze_batch_norms(model) == 34
    torch.testing.assert_close(model(images), expected, rtol=0, atol=0)


def test_norms_that_do_something_unknown_are_refused():
    class Louder(nn.BatchNorm2d):
        def forward(self, maps):
            return 2 * super().forward(maps)

    with pytest.raises(UserError, match="freeze_batch_norm: 0 is a Louder"):
        freeze_batch_norms(nn.Sequential(Louder(3)))


def test_training_and_sync_conversion_leave_it_as_it_is():
    model = network()
    freeze_batch_norms(model)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model).train()
    before = {k: v.clone() for k, v in model.state_dict().items() if k.startswith(("1.", "3.1."))}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(torch.rand(2, 3, 9, 8)).sum().backward()
    optimizer.step()
    assert len(before) == 10
    for key, value in before.items():
        assert torch.equal(model.state_dict()[key], value), key
