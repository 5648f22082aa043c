"""The data sets of classification: layouts, labels, and what is said of a folder that does not fit."""

import pickle
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

import data.datasets  # noqa: F401 - registers the data sets
from config.errors import UserError
from data.datasets.classification.imagenet import ImageFolder
from data.datasets.classification.imagenet_variants import ImageNetV2, synsets
from data.images import ImageError
from data.kinds import CLASSIFICATION_DATASETS
from data.sample import Batch
from engine.command_line import main
from engine.metrics.metric import Observation, build_metrics
from engine.parts import build_task
from engine.reading import load_recipe
from engine.settings import StatsOptions
from loss_fn.output import LossOutput

KNOWN = {
    "n01440764": 0,
    "n01498041": 6,
    "n02123045": 281,
    "n15075141": 999,
}  # tench ... toilet paper


def fill(root, counts):
    """Folders with so many images each, every one of another colour."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((5, 4, 3), len(name) + number, np.uint8)
            assert cv2.imwrite(str(root / name / f"{number}.png"), pixels)
    return str(root)


def opened(name, root, split="val", **options):
    entry = CLASSIFICATION_DATASETS[name]
    return entry.component(entry.options(**options), root=root, split=split)


def test_synset_ids_are_those_of_timm():
    text = (resources.files("timm.data._info") / "imagenet_synsets.txt").read_text()
    assert list(synsets()) == text.split()
    assert list(synsets()) == sorted(set(synsets()))
    assert len(synsets()) == 1000


def test_every_image_is_found_in_the_folder_of_its_class(tmp_path):
    folder = ImageFolder(None, root=fill(tmp_path, {"b": 3, "a": 1, "c": 2}), split="train")
    assert folder.classes == ("a", "b", "c")
    assert folder.labels.tolist() == [0, 1, 1, 1, 2, 2]
    parents = [Path(folder.describe(index)).parent.name for index in range(len(folder))]
    assert parents == ["a", "b", "b", "b", "c", "c"]
    assert [folder.load(index)[1] for index in range(6)] == folder.labels.tolist()


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r", "imagenet_sketch"])
def test_labels_of_variants_are_places_among_the_thousand(name, tmp_path):
    folder = opened(name, fill(tmp_path, dict.fromkeys(KNOWN, 2)))
    assert folder.classes == synsets()
    assert folder.labels.tolist() == sorted([*KNOWN.values()] * 2)
    assert not hasattr(folder, "possible")
    for index in range(len(folder)):
        assert KNOWN[Path(folder.describe(index)).parent.name] == folder.load(index)[1]


@pytest.mark.parametrize("letter", ["a", "r"])
def test_the_two_hundred_classes_are_where_timm_says(letter, tmp_path):
    info = resources.files("timm.data._info")
    names = (info / f"imagenet_{letter}_synsets.txt").read_text().split()
    places = (info / f"imagenet_{letter}_indices.txt").read_text().split()
    root = fill(tmp_path, dict.fromkeys(names, 1))
    folder = opened(f"imagenet_{letter}", root, only_its_classes=True)
    assert folder.possible == tuple(map(int, places))


def test_a_folder_of_another_name_is_named(tmp_path):
    root = fill(tmp_path, {"n01440764": 1, "n0144076": 1})
    with pytest.raises(UserError, match=r"n0144076 is no class .* did you mean n01440764"):
        opened("imagenet_sketch", root)


@pytest.mark.parametrize("split", ["matched-frequency", "threshold-0.7", "top-images"])
def test_folders_of_imagenet_v2_are_numbers(split, tmp_path):
    archive = tmp_path / ImageNetV2.unpacked[split]
    fill(archive, {"10": 1, "2": 3, "0": 1, "999": 1})
    entry = CLASSIFICATION_DATASETS["imagenet_v2"]
    for root in (tmp_path, archive):
        folder = entry.component(entry.options(split=split), root=str(root), split="val")
        assert folder.labels.tolist() == [0, 10, 2, 2, 2, 999]
        assert folder.classes == synsets()
    other = "top-images" if split != "top-images" else "threshold-0.7"
    with pytest.raises(UserError, match="is no folder of ImageNetV2; unpack one of its archives"):
        entry.component(entry.options(split=other), root=str(tmp_path), split="val")


def evaluated(tmp_path, **options):
    """The classification of two images of classes 0 and 6 among 1000, and what top-1 makes of it."""
    root = fill(tmp_path, {"n01440764": 1, "n01498041": 1})
    options = {f"dataset.imagenet_a.{key}": value for key, value in options.items()}
    task = build_task(
        load_recipe({"dataset.name": "imagenet_a", "dataset.root_val": root, **options})
    )
    source = task.build_source("test")
    logits = torch.zeros(2, 1000)
    logits[:, 5], logits[0, 0], logits[1, 6], logits[:, 999] = 9.0, 2.0, 1.0, 1.5
    labels = torch.tensor(source.dataset.labels)
    batch = Batch(torch.zeros(2, 3, 4, 4), labels, (0, 1), ((4, 4),) * 2)
    found = task.postprocess(None, logits, batch)
    metric = build_metrics(("top1",), StatsOptions())["top1"]
    metric.update(Observation(logits, labels, LossOutput(torch.zeros(()), {}), 2, False, found))
    return found, metric.result([metric.state()])


def test_logits_of_classes_that_the_data_lack_can_be_ruled_out(tmp_path):
    plain, top1 = evaluated(tmp_path / "all")
    assert plain.argmax(1).tolist() == [5, 5]
    assert top1 == 0.0
    restricted, top1 = evaluated(tmp_path / "some", only_its_classes=True)
    assert restricted.argmax(1).tolist() == [0, 6]
    assert top1 == 100.0
    assert restricted.isfinite().sum() == 4
    assert restricted.softmax(1)[0, :7].tolist() == pytest.approx(
        [np.e**2 / (1 + np.e**2), 0, 0, 0, 0, 0, 1 / (1 + np.e**2)]
    )


def test_the_opencv_data_set_is_the_same_folder_in_rgb(tmp_path):
    recipe = load_recipe({"dataset": {"name": "imagenet_opencv", "root_train": str(tmp_path)}})
    assert recipe.dataset.name == "imagenet"
    assert "old value dataset.name=imagenet_opencv read as imagenet" in recipe.notes[-1]


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """CIFAR-10 with two images in each file, at the layout of its archive; checksums are not its own."""
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda path, md5: Path(path).exists())
    folder = tmp_path / datasets.CIFAR10.base_folder
    folder.mkdir()
    names = [row[0] for row in (*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list)]
    for number, name in enumerate(names):
        pixels = np.zeros((2, 3, 32, 32), np.uint8)
        pixels[0, 0], pixels[1, 2] = 10 + number, 20 + number  # red, blue
        content = {"data": pixels.reshape(2, -1), "labels": [number % 3, 2]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["ape", "bat", "cat"]}))
    return str(tmp_path)


def test_cifar_by_hand(cifar):
    train = opened("cifar10", cifar, "train")
    assert train.classes == ("ape", "bat", "cat")
    assert train.labels.tolist() == [0, 2, 1, 2, 2, 2, 0, 2, 1, 2]
    image, label = train.load(3)
    assert (image.shape, image.dtype, label) == ((32, 32, 3), np.uint8, 2)
    assert image[7, 9].tolist() == [0, 0, 21]
    torch.from_numpy(image)  # warns of an array that cannot be written
    for split in ("val", "test"):
        held_out = opened("cifar10", cifar, split)
        assert held_out.labels.tolist() == [2, 2]
        assert held_out.load(0)[0][0, 0].tolist() == [15, 0, 0]
    assert pickle.loads(pickle.dumps(train)).load(0)[1] == 0


@pytest.fixture
def pets(tmp_path):
    images, annotations = (
        tmp_path / "oxford-iiit-pet" / name for name in ("images", "annotations")
    )
    images.mkdir(parents=True)
    annotations.mkdir()
    lines = ["Abyssinian_1 1 1 1", "great_pyrenees_10 2 2 1", "Abyssinian_2 1 1 1"]
    (annotations / "trainval.txt").write_text("\n".join(lines[:2]) + "\n")
    (annotations / "test.txt").write_text("\n".join(lines[::-1][:2]) + "\n")
    for line, colour in zip(lines, ["red", "lime", "blue"], strict=True):
        Image.new("RGB", (6, 4), colour).save(images / f"{line.split()[0]}.jpg", quality=95)
    return tmp_path


def test_pets_by_hand(pets):
    train, held_out = (opened("oxford_iiit_pet", str(pets), split) for split in ("train", "val"))
    assert train.classes == held_out.classes == ("Abyssinian", "Great Pyrenees")
    assert (train.labels.tolist(), held_out.labels.tolist()) == ([0, 1], [0, 1])
    image, label = train.load(1)
    assert (image.shape, label) == ((4, 6, 3), 1)
    assert np.abs(image.astype(int) - [0, 255, 0]).max() < 4
    path = pets / "oxford-iiit-pet/images/Abyssinian_2.jpg"
    assert held_out.describe(0) == str(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError, match=r"Abyssinian_2\.jpg: cannot read the image"):
        held_out.load(0)


def test_data_that_are_not_there_are_asked_for(tmp_path):
    for name in ("cifar10", "cifar100", "oxford_iiit_pet"):
        with pytest.raises(UserError, match=r"root_train: no .* set dataset\.download=true"):
            opened(name, str(tmp_path), "train")
        with pytest.raises(UserError, match=r"root_train: no folder is given"):
            opened(name, None, "train")


def source_of(name, root):
    mapping = {"dataset": {"name": name, "root_train": root, "download": True}}
    return build_task(load_recipe(mapping)).build_source("train")


def test_download_goes_through_torchvision_and_only_when_asked(cifar, monkeypatch):
    asked = []

    def fetch(url, root, filename, md5):
        asked.append((url, root, md5))
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.cifar, "download_and_extract_archive", fetch)
    assert len(source_of("cifar10", cifar)) == 10
    assert asked == []  # it is there
    (Path(cifar) / datasets.CIFAR10.base_folder / "test_batch").unlink()
    with pytest.raises(
        UserError, match=r"dataset\.root_train: cannot download CIFAR-10 .*no route"
    ):
        source_of("cifar10", cifar)
    assert asked == [(datasets.CIFAR10.url, cifar, datasets.CIFAR10.tgz_md5)]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"dataset\.download: one process has to fetch"):
        source_of("cifar10", cifar)
    with pytest.raises(UserError, match=r"imagenet cannot be downloaded \(cifar10, cifar100, oxfo"):
        source_of("imagenet", cifar)


def test_the_command_of_the_page_for_cifar(cifar, tmp_path, monkeypatch, capsys):
    """In one epoch, of fewer warm-up steps than it has."""
    page = Path(__file__).resolve().parents[2] / "docs/classification_data.md"
    text = page.read_text().replace("\\\n", " ")
    (line,) = (line for line in text.splitlines() if "dataset.name=cifar10" in line)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar").mkdir()
    (tmp_path / datasets.CIFAR10.base_folder).rename(
        tmp_path / "cifar" / datasets.CIFAR10.base_folder
    )
    quick = ["scheduler.max_epochs=1", "scheduler.warmup_iterations=0", "dataset.workers=0"]
    code = main([*line.split()[1:], *quick, "common.device=cpu"])
    done = capsys.readouterr()
    assert code == 0, done.out + done.err
    assert "evaluated 2 of 2 unique images" in done.out
