"""Labels of YOLO and Pascal VOC come in as COCO's: the boxes of a generated set, there and back."""

import json
import os
import re
import shlex
import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from data.datasets.detection.coco import CocoDetection, DetectionDataOptions
from data.datasets.shapes import CLASSES, generate
from engine.command_line import main

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {"train": 12, "val": 5}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A generated set in COCO's layout; one image has a crowd, one no object."""
    folder = tmp_path_factory.mktemp("shapes") / "coco"
    generate("coco", folder, **COUNTS, size=160)
    return folder


def coco(folder, split):
    """A split as pycocotools reads it."""
    return COCO(folder / f"annotations/instances_{split}2017.json")


def boxes(index):
    """File name -> sorted (class, x, y, w, h); crowds are objects like the others."""
    names = {category["id"]: category["name"] for category in index.loadCats(index.getCatIds())}
    return {
        image["file_name"]: sorted(
            (names[a["category_id"]], *a["bbox"]) for a in index.imgToAnns[number]
        )
        for number, image in index.imgs.items()
    }


def convert(kind, folder, out, *options):
    """Run the command; the report it has written."""
    assert (
        main(["convert-data", kind, str(folder), "--to", "coco", "--out", str(out), *options]) == 0
    )
    return json.loads((out / "conversion.json").read_text())


def copies(shapes, target, pattern):
    """Copy the images to `target / pattern.format(split, name)`; (split, path, size, boxes) each."""
    for split in COUNTS:
        index = coco(shapes, split)
        for image in index.imgs.values():
            path = target / pattern.format(split=split, name=image["file_name"])
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(shapes / f"{split}2017" / image["file_name"], path)
            yield split, path, (image["width"], image["height"]), boxes(index)[path.name]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def yolo_lines(size, objects):
    shares = np.array([box for _, *box in objects]).reshape(-1, 4) / (size * 2)
    shares[:, :2] += shares[:, 2:] / 2
    return "".join(
        f"{CLASSES.index(name)} {' '.join(f'{value:.6f}' for value in row)}\n"
        for (name, *_), row in zip(objects, shares, strict=True)
    )


def voc_xml(size, objects, origin=1):
    found = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x + origin:g}</xmin>"
        f"<ymin>{y + origin:g}</ymin><xmax>{x + w:g}</xmax><ymax>{y + h:g}</ymax></bndbox>"
        f"<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>\n"
        for name, x, y, w, h in objects
    )
    size = "<size><width>{}</width><height>{}</height><depth>3</depth></size>".format(*size)
    return f"<annotation>\n<filename>other.jpg</filename>\n{size}\n{found}</annotation>\n"


ORDER = [*enumerate(CLASSES)][::-1]
NAMES = "names:\n" + "".join(f"  {place}: {name}\n" for place, name in ORDER)
LIST = f"nc: {len(CLASSES)}\nnames: [{', '.join(CLASSES)}]\n"
LINES = "".join(f"{name}\n" for name in CLASSES)
# layout -> where images go, where labels go, and what else there is
YOLO = {
    "ultralytics": (
        "images/{split}/{name}",
        "labels/{split}/{stem}.txt",
        {
            "data.yaml": f"path: ../datasets/gone\ntrain: images/train\nval: images/val\ntest:\n{NAMES}"
        },
    ),
    "path": (
        "images/images/{split}/{name}",
        "images/labels/{split}/{stem}.txt",
        {"shapes.yml": f"path: images\ntrain: [images/train]\nval: images/val\n{LIST}"},
    ),
    "lists": (
        "images/all/{name}",
        "labels/all/{stem}.txt",
        {
            "data.yaml": f"train: images/train.txt\nval: images/val.txt\n{NAMES}",
            ".\\all\\": "images/{split}.txt",
        },
    ),
    "roboflow": (
        "{split}/images/{name}",
        "{split}/labels/{stem}.txt",
        {
            "data.yaml": f"train: ../train/images\nval: ../valid/images\n{LIST}roboflow:\n  version: 1\n",
            "README.dataset.txt": "shapes",
        },
    ),
    "mirrored": ("images/{split}/{name}", "labels/{split}/{stem}.txt", {"classes.txt": LINES}),
    "beside": (
        "{split}/{name}",
        "{split}/{stem}.txt",
        {"train/classes.txt": LINES, "train/Notes.txt": "shapes"},
    ),
    "darknet": (
        "obj_{split}_data/{name}",
        "obj_{split}_data/{stem}.txt",
        {"obj.names": LINES, "data/obj_{split}_data/": "{split}.txt"},
    ),
}
VALID = {"roboflow": ["val"], "beside": ["val"], "darknet": ["val.txt"]}  # as these call it
VOC = {
    "one year": ("JPEGImages/{name}", "Annotations/{stem}.xml", "ImageSets/Main"),
    "lists": (
        "VOC2007/JPEGImages/{name}",
        "VOC2007/Annotations/{stem}.xml",
        "VOC2007/ImageSets/Main",
    ),
    "split folders": ("JPEGImages/{split}/{name}", "Annotations/{split}/{stem}.xml", None),
    "folders": ("{split}/{name}", "{split}/{stem}.xml", None),
    "mirrored": ("images/{split}/{name}", "annotations/xmls/{split}/{stem}.xml", None),
}


def write_yolo(shapes, target, layout):
    images, labels, rest = YOLO[layout]
    listed = {}
    for split, path, size, objects in copies(shapes, target, images):
        label = target / labels.format(split=split, stem=path.stem)
        if objects:
            write(label, yolo_lines(size, objects))
        listed.setdefault(split, []).append(path.name)
    for name, text in rest.items():
        if name[-1] in "/\\":  # lists of images, whose paths begin so
            for split, files in listed.items():
                lines = [name.format(split=split) + file for file in files]
                write(target / text.format(split=split), "\n".join(lines))
        else:
            write(target / name, text)
    for name in VALID.get(layout, ()):
        (target / name).rename(target / name.replace("val", "valid"))
    return target


def write_voc(shapes, target, layout, origin=1):
    images, labels, lists = VOC[layout]
    for split, path, size, objects in copies(shapes, target, images):
        write(target / labels.format(split=split, stem=path.stem), voc_xml(size, objects, origin))
        if lists:
            (target / lists).mkdir(parents=True, exist_ok=True)
            for name in (split, "trainval"):
                with open(target / lists / f"{name}.txt", "a") as file:
                    file.write(f"{path.stem}\n")
    return target


def flat(kind, shapes, target):
    """Images and labels side by side, without splits."""
    for _, path, size, objects in copies(shapes, target, "{name}"):
        if kind == "yolo":
            write(path.with_suffix(".txt"), yolo_lines(size, objects))
        else:
            write(path.with_suffix(".xml"), voc_xml(size, objects))
    if kind == "yolo":
        write(target / "classes.txt", LINES)
    return target


# --- there and back ------------------------------------------------------------------------------


def check_same(shapes, out):
    numbers = []
    for split, count in COUNTS.items():
        index = coco(out, split)
        assert boxes(index) == boxes(coco(shapes, split))
        assert len(index.imgs) == count
        numbers += [*index.imgs, *index.anns]
        for image in index.imgs.values():
            pixels = cv2.imread(str(out / f"images/{split}2017" / image["file_name"]))
            assert pixels.shape[:2] == (image["height"], image["width"])
        for annotation in index.anns.values():
            assert annotation["iscrowd"] == 0
            assert annotation["area"] == annotation["bbox"][2] * annotation["bbox"][3]
    images, objects = sum(COUNTS.values()), len(numbers) - sum(COUNTS.values())
    assert len(set(numbers)) == max(images, objects)  # each kind counts from 1 through both splits


@pytest.mark.parametrize("layout", YOLO)
def test_boxes_of_yolo_come_back(layout, shapes, tmp_path):
    """Whole numbers of pixels survive the six decimals of YOLO exactly."""
    folder = write_yolo(shapes, tmp_path / "in", layout)
    report = convert("yolo", folder, tmp_path / "out")
    check_same(shapes, tmp_path / "out")
    assert [c["name"] for c in coco(tmp_path / "out", "val").loadCats(range(1, 9))] == list(CLASSES)
    assert set(report["findings"]) == {"no_label_file"}
    assert report["findings"]["no_label_file"]["count"] == 1


@pytest.mark.parametrize("layout", VOC)
def test_boxes_of_voc_come_back(layout, shapes, tmp_path):
    folder = write_voc(shapes, tmp_path / "in", layout)
    report = convert("voc-xml", folder, tmp_path / "out")
    check_same(shapes, tmp_path / "out")
    assert report["findings"] == {}
    assert report["images"] == COUNTS
    assert report["images without objects"] == {"train": 1, "val": 0}


def test_voc_counted_from_0(shapes, tmp_path, capsys):
    folder = write_voc(shapes, tmp_path / "in", "lists", origin=0)
    write(
        folder / "VOC2007/Annotations/odd.xml",
        voc_xml((9, 9), [("disc", 0, 0, 5, 5), ("disc", -2, 1, 5, 5)], 0),
    )
    cv2.imwrite(str(folder / "VOC2007/JPEGImages/odd.png"), np.zeros((9, 9, 3), np.uint8))
    with open(folder / "VOC2007/ImageSets/Main/train.txt", "a") as file:
        file.write("odd\n")
    report = convert("voc-xml", folder, tmp_path / "zero", "--zero-based")
    assert set(report["findings"]) == {"clipped"}
    train = boxes(coco(tmp_path / "zero", "train"))
    assert train.pop("odd.png") == [("disc", 0, 0, 5, 5), ("disc", 0, 1, 3, 5)]
    assert train == boxes(coco(shapes, "train"))
    report = convert("voc-xml", folder, tmp_path / "one")
    assert "VOC2007/Annotations/odd.xml:4" in report["findings"]["from_zero"]["examples"]
    assert boxes(coco(tmp_path / "one", "train"))["odd.png"][0] == ("disc", 0, 0, 3, 6)  # clipped


@pytest.mark.parametrize("kind", ["yolo", "voc-xml"])
def test_our_data_set_reads_what_was_written(kind, shapes, tmp_path):
    convert(kind, flat(kind, shapes, tmp_path / "in"), tmp_path / "out")
    for split in COUNTS:
        theirs = CocoDetection(DetectionDataOptions(), root=str(tmp_path / "out"), split=split)
        assert len(theirs.report.lines()) <= 2  # counts; nothing is clipped or dropped there
        assert theirs.categories.names == CLASSES
        for index in range(len(theirs)):
            image, objects = theirs.load(index)
            assert image.shape[:2] == tuple(theirs.sizes[index])
            assert np.array_equal(
                objects.truth.boxes[:, 2:], objects.boxes[:, 2:] - objects.boxes[:, :2]
            )
    assert len(theirs) == round(0.2 * sum(COUNTS.values()))


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
def test_outlines_are_kept_and_their_hull_is_the_box(tmp_path):
    folder = one_image(tmp_path / "in", "1 0.5 0.2 0.5 0.6 0.1 0.2\n0 .5 .5 .2 .2\n")
    convert("yolo", folder, tmp_path / "out")
    first, second = coco(tmp_path / "out", "train").loadAnns([1, 2])
    assert first["bbox"] == pytest.approx([10, 10, 40, 20], abs=1 / 512)
    assert first["segmentation"] == [[50, 10, 50, 30, 10, 10]]
    assert first["area"] == pytest.approx(0.5 * 40 * 20)
    assert second["segmentation"] == []
    assert second["bbox"] == [40, 20, 20, 10]
    index = coco(tmp_path / "out", "train")
    assert index.annToMask(first).sum() == pytest.approx(400, abs=40)


def test_clipped_boxes_end_exactly_at_the_edge(tmp_path):
    """Also in float32, so that our data set has nothing to clip."""
    rng = np.random.default_rng(0)
    draws = rng.uniform(0.05, 0.95, (200, 2))
    rows = [f"0 {x} {y} {2 * (1 - x)} {2 * y}" for x, y in draws]
    folder = one_image(tmp_path / "in", "\n".join(rows), size=(997, 613))
    convert("yolo", folder, tmp_path / "out")
    theirs = CocoDetection(DetectionDataOptions(), root=str(tmp_path / "out"), split="val")
    assert theirs.report.objects == 200
    assert theirs.report.clipped.count == 0
    edges = theirs.objects(0, 613, 997).boxes
    inner = [[x * 997 - (1 - x) * 997, 2 * y * 613] for x, y in draws]
    assert np.abs(edges[:, [0, 3]] - np.clip(inner, 0, [997, 613])).max() <= 1 / 512 + 1e-4
    assert set(edges[:, 1]) == {0}
    assert set(edges[:, 2]) == {997}


# --- splits --------------------------------------------------------------------------------------


def split_of(out):
    return {split: set(boxes(coco(out, split))) for split in COUNTS}


@pytest.mark.parametrize("kind", ["yolo", "voc-xml"])
def test_a_share_is_put_aside_by_name_and_seed(kind, shapes, tmp_path):
    first, second = (flat(kind, shapes, tmp_path / name) for name in ("first", "second"))
    convert(kind, first, tmp_path / "a")
    convert(kind, second, tmp_path / "b", "--val-share", "0.2", "--seed", "0")
    convert(kind, first, tmp_path / "c", "--seed", "1")
    convert(kind, first, tmp_path / "d", "--val-share", "0.4")
    a, b, c, d = (split_of(tmp_path / name) for name in "abcd")
    assert a == b
    assert a["val"] != c["val"]
    assert a["val"] < d["val"]
    assert [len(x["val"]) for x in (a, c, d)] == [3, 3, 7]
    for x in (a, c, d):
        assert not x["train"] & x["val"]
        assert len(x["train"] | x["val"]) == sum(COUNTS.values())
    merged = {name: found for s in COUNTS for name, found in boxes(coco(tmp_path / "a", s)).items()}
    assert merged == {n: found for s in COUNTS for n, found in boxes(coco(shapes, s)).items()}


def test_lists_of_voc_without_a_validation_split(shapes, tmp_path):
    folder = write_voc(shapes, tmp_path / "in", "lists")
    lists = folder / "VOC2007/ImageSets/Main"
    (lists / "trainval.txt").unlink()
    (lists / "val.txt").rename(lists / "Test.txt")
    (lists / "train.txt").rename(lists / "trainval.txt")
    write(lists / "disc_trainval.txt", "nonsense -1\n")  # lists by class are not read
    report = convert("voc-xml", folder, tmp_path / "out", "--val-share", "0.25")
    assert report["images"] == {"train": 9, "val": 3}
    assert report["findings"]["test"]["count"] == COUNTS["val"]
    assert set.union(*split_of(tmp_path / "out").values()) == set(boxes(coco(shapes, "train")))


def test_lists_of_voc_without_one_to_train(shapes, tmp_path):
    """trainval.txt holds what val.txt names, too."""
    folder = write_voc(shapes, tmp_path / "in", "lists")
    (folder / "VOC2007/ImageSets/Main/train.txt").unlink()
    report = convert("voc-xml", folder, tmp_path / "out")
    assert sum(report["images"].values()) == sum(COUNTS.values())
    assert report["findings"] == {}


def test_images_that_no_list_names_are_told(shapes, tmp_path):
    folder = write_voc(shapes, tmp_path / "in", "lists")
    lists = folder / "VOC2007/ImageSets/Main"
    names = (lists / "train.txt").read_text().split()
    write(lists / "train.txt", "\n".join([*names[1:], names[1], f"{names[2]}.jpg", "gone"]))
    findings = convert("voc-xml", folder, tmp_path / "out")["findings"]
    assert findings["unused"]["examples"] == [f"VOC2007/Annotations/{names[0]}.xml"]
    assert findings["unlisted"]["examples"] == [f"VOC2007/JPEGImages/{names[0]}.jpg"]
    assert findings["listed_twice"]["count"] == 2
    assert findings["unreadable"]["examples"] == ["VOC2007/JPEGImages/gone"]
    assert len(findings) == 4


# --- what is mended or left out, and told --------------------------------------------------------


def one_image(folder, labels, name="a", size=(100, 50)):
    """A flat YOLO folder with two classes: an image with these labels, and one without objects."""
    folder.mkdir(parents=True, exist_ok=True)
    for each, text in ((name, labels), ("empty", "")):
        Image.new("RGB", size).save(folder / f"{each}.jpg")
        write(folder / f"{each}.txt", text)
    write(folder / "data.yaml", "train: .\nval: .\nnames: [cat, dog]\n")
    return folder


def test_every_odd_box_is_counted_with_its_line(tmp_path, capsys):
    lines = [
        "0 0.5 0.5 0.2 0.2",
        "0 0.5 0.5 0.20 0.2",  # again
        "1 0.5 0.5 0.2 0.2",  # another class
        "0 0.05 0.5 0.2 0.2",  # reaches 5 pixels beyond the left edge
        "0 0.1 0.1 0.201 0.2",  # beyond by a twentieth of a pixel
        "0 1.5 0.5 0.2 0.2",  # outside
        "0 0.5 0.5 0 0.2",
        "0 0.5 0.5 0.2 -0.1",
        "0 0.5 0.5 -0.2 0.1",
        "0 0.5 0.5 0.2 0",
        "1 0.9 0.9 1.1 0.9 1.1 1.0",
    ]
    folder = one_image(tmp_path / "in", "\ufeff" + "\r\n".join(lines) + "\n\n")
    (folder / "sub").mkdir()
    report = convert("yolo", folder / "sub/..", tmp_path / "out")
    found = {kind: row["examples"] for kind, row in report["findings"].items()}
    assert found.pop("in_both_splits") == ["a.jpg", "empty.jpg"]
    assert found == {
        "repeated": ["a.txt:2"],
        "clipped": ["a.txt:4", "a.txt:11"],
        "outside": ["a.txt:6"],
        "degenerate": ["a.txt:7", "a.txt:8", "a.txt:9"],
    }
    assert (
        report["findings"]["degenerate"]["count"] == 4
    )  # once, though the image is in both splits
    assert report["classes"] == {"cat": {"train": 3, "val": 3}, "dog": {"train": 2, "val": 2}}
    out = capsys.readouterr().out
    assert "2 box(es) that reach outside their image, clipped, e.g. a.txt:4, a.txt:11\n" in out
    assert re.search(r"^images without objects +1 +1$", out, re.M)
    assert re.search(r"^ +train +val$", out, re.M)
    assert re.search(r"^cat +3 +3$", out, re.M)
    kept = [a["bbox"] for a in coco(tmp_path / "out", "train").anns.values()]
    assert kept == [[40, 20, 20, 10]] * 2 + [
        [0, 20, 15, 10],
        [0, 0, 20.05078125, 10],
        [90, 45, 10, 5],
    ]
    cut = coco(tmp_path / "out", "train").anns[5]
    assert cut["segmentation"] == [[90, 45, 100, 45, 100, 50]]
    assert cut["area"] == pytest.approx(25)


def test_images_and_labels_that_do_not_fit_together(tmp_path):
    folder = one_image(tmp_path / "in", "0 0.5 0.5 0.2 0.2")
    write(folder / "lost.txt", "0 0.5 0.5 0.2 0.2")
    write(folder / "broken.jpg", "no image")
    shutil.copy(folder / "a.jpg", folder / "unlabelled.jpg")
    Image.new("RGB", (100, 50)).save(folder / "a.png")
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.new("RGB", (50, 100)).save(folder / "turned.jpg", exif=tag)
    Image.new("RGB", (9, 9)).save(folder / "odd_tag.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0")
    write(folder / "odd_tag.txt", "")
    huge = bytearray((folder / "a.png").read_bytes())
    huge[16:24] = (100_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    (folder / "huge.png").write_bytes(huge)
    for name in (".hidden.jpg", ".trash/a.jpg", "__MACOSX/a.jpg"):
        write(folder / name, "as a Mac leaves it")
    (folder / "data.yaml").unlink()
    write(folder / "classes.txt", "cat\ndog\n")
    report = convert("yolo", folder, tmp_path / "out")
    assert {kind: row["examples"] for kind, row in report["findings"].items()} == {
        "shared": ["a.png"],
        "unreadable": ["broken.jpg", "huge.png"],
        "turned": ["turned.jpg"],
        "no_label_file": ["turned.jpg", "unlabelled.jpg"],
        "unused": ["lost.txt"],
    }
    sizes = {
        image["file_name"]: (image["width"], image["height"])
        for split in COUNTS
        for image in coco(tmp_path / "out", split).imgs.values()
    }
    assert sizes["turned.jpg"] == (50, 100)  # as our decoder sees it


@pytest.mark.parametrize(
    ("choice", "crowds", "kept"), [("keep", [0, 0], 2), ("crowd", [0, 1], 2), ("drop", [0], 1)]
)
def test_difficult_objects(choice, crowds, kept, tmp_path):
    text = voc_xml((9, 9), [("cat", 0, 0, 5, 5), ("dog", 1, 1, 5, 5)])
    hard = "<difficult>1".join(text.rsplit("<difficult>0", 1))
    for name in "ab":
        Image.new("RGB", (9, 9)).save(write(tmp_path / f"in/{name}.png", ""))
        write(tmp_path / f"in/{name}.xml", hard)
    report = convert("voc-xml", tmp_path / "in", tmp_path / "out", "--difficult", choice)
    assert [a["iscrowd"] for a in coco(tmp_path / "out", "train").anns.values()] == crowds
    assert report["objects"] == {"train": kept, "val": kept}
    assert [(kind, row["count"]) for kind, row in report["findings"].items()] == [
        (f"difficult_{choice}", 2)
    ]


def test_names_that_collide_become_distinct(tmp_path):
    for place, name in enumerate(("one/a.jpg", "two/a.jpg", "two/A.jpg", "two/a_2.jpg")):
        path = write(tmp_path / "in/images" / name, "")
        Image.new("RGB", (20 + place, 10)).save(path)
        write(tmp_path / "in/labels" / Path(name).with_suffix(".txt"), f"{place} 0.5 0.5 0.5 0.5")
    write(tmp_path / "in/x.yaml", "train: images\nval: no/../images\nnames: [a, b, c, d]")
    report = convert("yolo", tmp_path / "in", tmp_path / "out")
    index = coco(tmp_path / "out", "val")
    assert sorted(image["file_name"].lower() for image in index.imgs.values()) == [
        *("a.jpg", "a_2.jpg", "a_2_2.jpg", "a_3.jpg")
    ]
    for image in index.imgs.values():
        (annotation,) = index.imgToAnns[image["id"]]
        path = tmp_path / "out/images/val2017" / image["file_name"]
        width = cv2.imread(str(path)).shape[1]
        assert width == image["width"] == 19 + annotation["category_id"]
    assert report["findings"]["renamed"]["count"] == 3
    assert report["findings"]["in_both_splits"]["count"] == 4
    assert report["findings"]["renamed"]["examples"][0] == "images/two/A.jpg to A_2.jpg"


# --- files ---------------------------------------------------------------------------------------


def test_files_are_linked_or_copied(tmp_path, monkeypatch):
    folder = one_image(tmp_path / "in", "0 0.5 0.5 0.2 0.2")
    source = (folder / "a.jpg").stat().st_ino

    def first(name, *options):
        report = convert("yolo", folder, tmp_path / name, *options)
        return tmp_path / name / "images/train2017/a.jpg", report["files"]

    path, files = first("linked")
    assert files == {"hard-linked": 4}
    assert path.stat().st_ino == source
    path, files = first("copied", "--copy")
    assert files == {"copied": 4}
    assert path.stat().st_ino != source
    assert path.read_bytes() == (folder / "a.jpg").read_bytes()

    def fail(*_):
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", fail)
    path, files = first("symlinked")
    assert files == {"symlinked": 4}
    assert path.is_symlink()
    assert path.samefile(folder / "a.jpg")
    monkeypatch.setattr(os, "symlink", fail)
    assert first("neither")[1] == {"copied": 4}


def test_a_link_to_an_image_gives_a_link_to_the_file(tmp_path):
    folder = one_image(tmp_path / "in", "0 0.5 0.5 0.2 0.2")
    (folder / "a.jpg").rename(tmp_path / "elsewhere.jpg")
    (folder / "a.jpg").symlink_to("../elsewhere.jpg")
    convert("yolo", folder, tmp_path / "images/er/out")
    path = tmp_path / "images/er/out/images/train2017/a.jpg"
    assert path.samefile(tmp_path / "elsewhere.jpg")
    assert not path.is_symlink()


def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch, capsys):
    folder = one_image(tmp_path / "in", "0 0.5 0.5 0.2 0.2")
    words = ["convert-data", "yolo", str(folder), "--out", str(tmp_path / "out"), "--copy"]
    for error, code in ((OSError(28, "No space left on device"), 2), (KeyboardInterrupt, 130)):

        def fail(*_, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "copyfile", fail)
            assert main(words) == code
        assert sorted(tmp_path.iterdir()) == [folder]
    assert "out: cannot write (No space left on device)" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    assert main(words) == 0


# --- mistakes ------------------------------------------------------------------------------------

YAML = "data.yaml"
GOOD = "train: .\nval: .\nnames: [cat, dog]\n"
MISTAKES = {  # what stands in a.txt or another file of one_image -> what is printed
    "class out of range": (
        "a.txt",
        "0 .5 .5 .1 .1\n2 .5 .5 .1 .1",
        r"a\.txt:2: class 2 is not among",
    ),
    "negative class": ("a.txt", "-1 .5 .5 .1 .1", r"a\.txt:1: class -1 is not among the 2 classes"),
    "half a class": ("a.txt", "0.5 .5 .5 .1 .1", r"a\.txt:1: class 0.5 is not among"),
    "too few": ("a.txt", "\n0 .5 .5 .1", r"a\.txt:2: `class cx cy w h` or .* \(4 values given\)"),
    "with confidence": ("a.txt", "0 .5 .5 .1 .1 .9", r"a\.txt:1: .* \(6 values given\)"),
    "a point": ("a.txt", "0 .1 .1", r"a\.txt:1: .* \(3 values given\)"),
    "half a point": ("a.txt", "0 .1 .1 .2 .2 .3 .3 .4", r"a\.txt:1: .* \(8 values given\)"),
    "a word": ("a.txt", "0 .5 .5 .1 cat", r"a\.txt:1: a number is expected \('cat' given\)"),
    "not a number": ("a.txt", "0 .5 nan .1 .1", r"a\.txt:1: a number is expected \('nan' given\)"),
    "pixels": ("a.txt", "0 50 25 20 10", r"a\.txt:1: shares of .*, not pixels \(50 given\)"),
    "latin-1": ("a.txt", b"0 .5 .5 .1 .1\n\xe9", r"a\.txt:2: not UTF-8 text"),
    "no names": (YAML, "train: .\n", r"data\.yaml: names: field required"),
    "no train": (YAML, "\nnames: [cat]\nval: .", r"data\.yaml: train: field required"),
    "empty train": (
        YAML,
        "train:\nnames: [cat]",
        r"data\.yaml:1: train: list should have at least 1",
    ),
    "nc": (YAML, GOOD + "nc: 3", r"data\.yaml:4: nc: 3, but there are 2 names"),
    "same names": (YAML, "train: .\nnames: [cat, cat]", r"data\.yaml:2: two classes .*'cat'"),
    "no class": (YAML, "train: .\nnames: []", r"data\.yaml:2: no class is named"),
    "key twice": (YAML, "train: .\nnames:\n  0: a\n  0: b", r"data\.yaml:4: names\.0: given twice"),
    "not YAML": (YAML, "train: [.\nnames: x", r"data\.yaml:1: not valid YAML: a bracket"),
    "a list": (YAML, "- a\n- b", r"data\.yaml: train: field required"),
    "poses": (YAML, GOOD + "kpt_shape: [17, 3]", r"data\.yaml:4: labels of poses"),
    "missing folder": (
        YAML,
        "train: im\nnames: [cat]",
        r"data\.yaml:1: train: there is no .*in/im$",
    ),
    "empty list": (
        YAML,
        "train: x.txt\nnames: [a]",
        r"data\.yaml:1: train: there is no .*in/x.txt",
    ),
    "val only": (YAML, "train: t\nval: .\nnames: [cat, dog]", r"in: there are images to validate"),
}


@pytest.mark.parametrize("title", MISTAKES)
def test_mistakes_in_yolo_labels(title, tmp_path, capsys):
    name, content, expected = MISTAKES[title]
    folder = one_image(tmp_path / "in", "0 .5 .5 .1 .1")
    (folder / "t").mkdir()
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(capsys, "yolo", folder, tmp_path, expected)


def refused(capsys, kind, folder, tmp_path, expected, *options):
    """The command ends with one line and code 2, and has written nothing."""
    words = ["convert-data", kind, str(folder), "--out", str(tmp_path / "out"), *options]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(expected, line), line
    assert not (tmp_path / "out").exists()


def test_mistakes_in_labels_are_told_together(tmp_path, capsys):
    folder = one_image(tmp_path / "in", "7 .5 .5 .1 .1\nx\n" + "0 .5 .5 .1\n" * 18)
    write(folder / "data.yaml", "train: .\nnames: [cat, dog]\n")
    assert main(["convert-data", "yolo", str(folder), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in lines[:10]] == [
        f"{folder}/a.txt:{n}" for n in range(1, 11)
    ]
    assert lines[10:] == ["labels: and 10 more mistakes like these"]


OBJECT = (
    "<annotation>\n<object>\n<name>cat</name>\n<bndbox><xmin>1</xmin>\n<ymin>1</ymin><xmax>5</xmax>"
    "<ymax>5</ymax>\n</bndbox></object>\n</annotation>"
)
XML = {  # change of the good file -> what is printed
    "not XML": ("</object>", "", r"a\.xml:7: not valid XML: mismatched tag"),
    "a DTD": (
        "<annotation>",
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>\n<annotation>',
        r"a\.xml:1: <!DOCTYPE> is not allowed",
    ),
    "another root": (
        "annotation>",
        "image>",
        r"a\.xml:1: <annotation> is expected \(<image> given\)",
    ),
    "no name": ("<name>cat</name>", "", r"a\.xml:2: <object> without <name>"),
    "empty name": ("cat", "  ", r"a\.xml:3: <name> is empty"),
    "no box": ("bndbox>", "robndbox>", r"a\.xml:2: <object> without <bndbox>"),
    "no corner": ("<xmin>1</xmin>", "", r"a\.xml:4: <bndbox> without <xmin>"),
    "a word": ("<ymin>1<", "<ymin>one<", r"a\.xml:5: <ymin>: a number is expected \('one' given\)"),
    "infinite": ("<xmax>5<", "<xmax>inf<", r"a\.xml:5: <xmax>: a number is expected"),
    "size": (
        "<object>",
        "<size><width>8</width><height>9</height></size><object>",
        r"a\.xml:2: labels of 8 x 9 pixels, but the image has 9 x 9$",
    ),
    "turned": (
        "<object>",
        "<size><width>12</width><height>9</height></size><object>",
        r"a\.xml:2: labels of 12 x 9 pixels, but the image has 9 x 12; is it turned by",
    ),
    "multi-byte": (
        "<annotation>",
        '<?xml version="1.0" encoding="gb2312"?>\n<annotation>',
        r"a\.xml:1: multi-byte encodings are not supported; save the file as UTF-8",
    ),
    "encoding": (
        "<annotation>",
        '<?xml version="1.0" encoding="x"?><annotation>',
        r"a\.xml:1: unknown encoding: x; save the file as UTF-8",
    ),
}


@pytest.mark.parametrize("title", XML)
def test_mistakes_in_voc_labels(title, tmp_path, capsys):
    old, new, expected = XML[title]
    assert old in OBJECT
    write(tmp_path / "in/a.xml", OBJECT.replace(old, new))
    Image.new("RGB", (9, 12 if title == "turned" else 9)).save(tmp_path / "in/a.png")
    refused(capsys, "voc-xml", tmp_path / "in", tmp_path, expected)


def test_sizes_that_tools_leave_out(tmp_path):
    for name, size in (("a", ""), ("b", "<size><width>0</width><height>0</height></size>")):
        write(tmp_path / f"in/{name}.xml", OBJECT.replace("<object>", f"{size}<object>", 1))
        Image.new("RGB", (9, 9)).save(tmp_path / f"in/{name}.png")
    assert convert("voc-xml", tmp_path / "in", tmp_path / "out")["objects"] == {
        "train": 1,
        "val": 1,
    }


def test_mistakes_in_folders(tmp_path, capsys):
    folder = tmp_path / "in"
    refused(capsys, "yolo", folder, tmp_path, r"in: no such folder")
    folder.mkdir()
    refused(capsys, "yolo", folder, tmp_path, r"in: nothing names the classes")
    write(folder / "classes.txt", "cat\n\ndog\n")
    refused(capsys, "yolo", folder, tmp_path, r"classes\.txt:2: a blank line")
    write(folder / "classes.txt", "cat\ncat\n")
    refused(capsys, "yolo", folder, tmp_path, r"classes\.txt: two classes are called 'cat'")
    write(folder / "classes.txt", "cat\ndog\n\n")
    refused(capsys, "yolo", folder, tmp_path, r"in: no images \(\.jpg, ")
    Image.new("RGB", (9, 9)).save(folder / "a.jpg")
    refused(capsys, "yolo", folder, tmp_path, r"in: no image has a label file, .* no \S*in/a\.txt")
    refused(capsys, "voc-xml", folder, tmp_path, r"in: no image has a label file, .*in/a\.xml")
    write(folder / "a.txt", "0 .5 .5 .1 .1")
    refused(capsys, "yolo", folder, tmp_path, r"in: 1 image\(s\) to train on; give at least 2")
    for name in ("data.yml", "other.yaml"):
        write(folder / name, GOOD)
    refused(capsys, "yolo", folder, tmp_path, r"in: data\.yml and other\.yaml; give the path")
    Image.new("RGB", (9, 9)).save(folder / "b.jpg")
    convert("yolo", folder / "other.yaml", tmp_path / "fine")
    write(folder / "data.yaml", "train: .\nnames: [cat, dog]\n")
    report = convert("yolo", folder, tmp_path / "finer", "--val-share", "0.9")
    assert report["images"] == {"train": 1, "val": 1}


def test_mistakes_in_options(tmp_path, capsys):
    folder = one_image(tmp_path / "in", "0 .5 .5 .1 .1")
    refused(capsys, "yolo", folder, tmp_path, r"--val-share: .*in has a", "--val-share", "0.2")
    refused(capsys, "yolo", folder, tmp_path, r"unrecognized arguments: --zero", "--zero-based")
    refused(capsys, "yolo", folder, tmp_path, r"invalid choice: 'voc'", "--to", "voc")
    refused(
        capsys,
        "yolo",
        folder,
        tmp_path,
        r"out lies in \S*in, which is read",
        "--out",
        str(folder / "out"),
    )
    refused(capsys, "yolo", folder, tmp_path, r"in is not empty", "--out", str(folder))
    refused(capsys, "yolo", folder, tmp_path, r"a.jpg is a file", "--out", str(folder / "a.jpg"))
    (folder / "data.yaml").unlink()
    write(folder / "classes.txt", "cat\ndog\n")
    for share in ("0", "1", "-0.5", "nan"):
        refused(capsys, "yolo", folder, tmp_path, rf"{share} is not between", "--val-share", share)
    refused(capsys, "coco", folder, tmp_path, r"invalid choice: 'coco'")


# --- the page ------------------------------------------------------------------------------------


def test_commands_of_the_page_on_own_data(shapes, tmp_path, monkeypatch):
    page = (ROOT / "docs/own_data.md").read_text().partition("## Train on it")[0]
    page = page.partition("## Labels of boxes")[2]
    (block,) = re.findall(r"```sh\n(.*?)```", page, flags=re.S)
    write_yolo(shapes, tmp_path / "birds", "roboflow")
    flat("voc-xml", shapes, tmp_path / "parts")
    monkeypatch.chdir(tmp_path)
    for line in block.splitlines():
        assert main(shlex.split(line)[1:]) == 0, line
    assert coco(Path("birds_coco"), "val").getImgIds()
    assert coco(Path("parts_coco"), "val").getImgIds()
