"""Mixup and cutmix: by hand, against torchvision, and how often each comes."""

import pytest
import torch
from pydantic import ValidationError
from torchvision.transforms import v2

from data.transforms.mixing import CutmixOptions, Mixing, MixupOptions

LABELS = torch.tensor([2, 0, 1, 0])


def mixing(mixup=None, cutmix=None) -> Mixing:
    """Those that are given are enabled."""
    return Mixing(
        MixupOptions(enable=mixup is not None, **(mixup or {})),
        CutmixOptions(enable=cutmix is not None, **(cutmix or {})),
    )


def pictures(height=8, width=8) -> torch.Tensor:
    """Four images, each of one value: 0, 1, 2, 3."""
    return torch.arange(4.0)[:, None, None, None].expand(4, 3, height, width).contiguous()


@pytest.fixture
def share(monkeypatch):
    """Fix what Beta draws."""

    def fix(value):
        monkeypatch.setattr(
            torch.distributions.Beta, "sample", lambda self, shape: torch.tensor([value])
        )

    return fix


def test_mixup_by_hand(share):
    share(0.75)
    images, targets = mixing(mixup={})(pictures(), LABELS, 3)
    # 3/4 of an image and 1/4 of the one before it; before the first comes the last
    assert images[:, 0, 0, 0].tolist() == [0.75, 0.75, 1.75, 2.75]
    assert torch.equal(images, images[:, :1, :1, :1].expand_as(images))
    assert targets.tolist() == [[0.25, 0, 0.75], [0.75, 0, 0.25], [0.25, 0.75, 0], [0.75, 0.25, 0]]


@pytest.mark.parametrize(
    ("centre", "box", "left"),
    [
        # 1/4 of the area: half of each side, 4 rows and 2 columns about the centre
        ((4, 2), (2, 6, 1, 3), 1 - 8 / 32),
        # cut off by the corner of the image: 2 rows and 1 column are left, and the share follows
        ((0, 0), (0, 2, 0, 1), 1 - 2 / 32),
    ],
)
def test_cutmix_by_hand(centre, box, left, share, monkeypatch):
    share(0.75)
    choose, (row, column) = torch.randint, centre
    where = {8: row, 4: column}  # what is drawn of the height and of the width

    def randint(high, size):
        return torch.full(size, where[high]) if high in where else choose(high, size)

    monkeypatch.setattr(torch, "randint", randint)
    images, targets = mixing(cutmix={})(pictures(8, 4), LABELS, 3)
    expected = pictures(8, 4)
    top, bottom, start, end = box
    for place, other in ((0, 3.0), (1, 0.0), (2, 1.0), (3, 2.0)):
        expected[place, :, top:bottom, start:end] = other
    assert torch.equal(images, expected)
    first = [1 - left, 0, left]
    assert torch.allclose(targets[0], torch.tensor(first), atol=1e-7)
    assert torch.allclose(targets.sum(1), torch.ones(4))


@pytest.mark.parametrize(("name", "theirs"), [("mixup", v2.MixUp), ("cutmix", v2.CutMix)])
@pytest.mark.parametrize("fixed", [0.3, None])
def test_torchvision_gives_the_same(name, theirs, fixed, share):
    if fixed is not None:
        share(fixed)
    images = torch.rand(4, 3, 9, 7)
    for seed in range(20):
        torch.manual_seed(seed)
        mine = mixing(**{name: {"alpha": 0.7}})(images, LABELS, 5)
        torch.manual_seed(seed)
        torch.randint(1, ()), torch.rand(())  # which of them, and whether
        expected = theirs(alpha=0.7, num_classes=5)(images, LABELS)
        assert torch.equal(mine[0], expected[0])
        assert torch.equal(mine[1], expected[1])


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_drawn_from_beta(alpha):
    torch.manual_seed(0)
    mix, images = mixing(mixup={"alpha": alpha}), torch.zeros(2, 3, 1, 1)
    shares = torch.stack([mix(images, torch.tensor([0, 1]), 2)[1][0, 0] for _ in range(1500)])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_the_defaults_are_the_official_ones():
    assert (MixupOptions().alpha, MixupOptions().p) == (0.2, 1.0)
    assert (CutmixOptions().alpha, CutmixOptions().p) == (1.0, 1.0)
    for options in (MixupOptions, CutmixOptions):
        assert not options().enable
        for values in ({"alpha": 0.0}, {"p": 1.5}):
            with pytest.raises(ValidationError):
                options(**values)


def test_each_comes_equally_often_and_with_its_own_probability():
    torch.manual_seed(0)
    mix = mixing(mixup={"p": 0.4, "alpha": 5.0}, cutmix={"p": 0.8, "alpha": 5.0})
    counts = {"none": 0, "mixup": 0, "cutmix": 0}
    for _ in range(1500):
        images, targets = mix(pictures(), LABELS, 3)
        if targets is LABELS:
            assert torch.equal(images, pictures())
            counts["none"] += 1
        else:
            whole = torch.equal(images, images.round())
            counts["cutmix" if whole else "mixup"] += 1
    shares = {name: count / 1500 for name, count in counts.items()}
    assert shares == pytest.approx({"none": 0.4, "mixup": 0.2, "cutmix": 0.4}, abs=0.04)


def test_what_is_not_mixed_stays_as_it_is():
    images = pictures()
    for mix in (mixing(), mixing(mixup={"p": 0.0}), mixing(mixup={"p": 0.0}, cutmix={"p": 0.0})):
        out = mix(images, LABELS, 3)
        assert out[0] is images
        assert out[1] is LABELS
    before = torch.get_rng_state()
    mixing()(images, LABELS, 3)
    assert torch.equal(torch.get_rng_state(), before)  # runs without mixing draw nothing


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_an_image_without_a_class_has_no_share(name, share):
    share(0.75)
    given = pictures(4, 4)
    _, targets = mixing(**{name: {}})(given, torch.tensor([1, -1, -1, 0]), 2)
    assert torch.equal(given, pictures(4, 4))
    own = targets[0, 1]
    assert 0.5 < own < 1
    assert torch.allclose(targets[0], torch.stack([1 - own, own]))
    assert torch.allclose(targets[1], torch.stack([own * 0, 1 - own]))
    assert targets[2].tolist() == [0, 0]
    assert torch.allclose(targets[3], torch.stack([own, own * 0]))


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type_and_layout_of_images_are_kept(name, dtype):
    images = pictures().to(dtype, memory_format=torch.channels_last)
    mixed, targets = mixing(**{name: {}})(images, LABELS, 3)
    assert mixed.dtype == targets.dtype == dtype
    assert mixed.is_contiguous(memory_format=torch.channels_last)
