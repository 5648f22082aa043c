"""One folder for both splits: which images validate, and tables of labels."""

import hashlib
import pickle
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import UserError
from data.datasets.classification.image_folder import (
    ImageFolderOptions,
    SplitFolder,
    validates,
)
from data.datasets.classification.label_table import columns

NAMES = st.lists(st.text("abé/.1", min_size=1, max_size=6), unique=True, min_size=2, max_size=40)


def opened(root, split="train", **options):
    return SplitFolder(ImageFolderOptions(**options), root=str(root), split=split)


def listing(images):
    """Every image with the name of its class, in order."""
    return [(images.describe(i), images.classes[images.load(i)[1]]) for i in range(len(images))]


@pytest.fixture
def flowers(image_folder, tmp_path):
    """A folder per class: 24 images each."""
    return Path(shutil.copytree(image_folder / "train", tmp_path / "flowers"))


def table(flowers, header="file,label", row="{path},{label}", name="labels.csv"):
    """A CSV file for the images of `flowers`, the last ones first."""
    paths = sorted(flowers.rglob("*.jpg"), reverse=True)
    lines = [
        row.format(
            path=path.relative_to(flowers).as_posix(), label=path.parent.name, name=path.name
        )
        for path in paths
    ]
    (flowers / name).write_text("\n".join([header, *lines]) + "\n")
    return str(flowers / name)


# --- the split -----------------------------------------------------------------------------------


@given(NAMES, NAMES, st.data(), st.integers(0, 9))
def test_a_new_image_moves_no_other_but_one_that_stood_in(first, second, data, seed):
    """Of its own class one at most, and only if that would have had no image on one side."""
    names = [f"a/{name}" for name in first] + [f"b/{name}" for name in second]
    labels = np.array([0] * len(first) + [1] * len(second))
    new = data.draw(st.integers(0, len(names) - 1))
    rest = [i for i in range(len(names)) if i != new]
    if min(np.bincount(labels[rest])) < 2:
        return
    full = validates(names, labels, 20, seed)
    before = validates([names[i] for i in rest], labels[rest], 20, seed)
    moved = np.array(rest)[full[rest] != before]
    assert len(moved) <= 1
    assert all(labels[moved] == labels[new])
    if len(moved):
        own = labels[rest] == labels[new]
        assert before[own].sum() == 1 or (~before[own]).sum() == 1
    for part in (full, before):
        for label in (0, 1):
            members = part[(labels if part is full else labels[rest]) == label]
            assert members.any()
            assert not members.all()


def test_which_images_validate_by_hand():
    names, seed = [f"daisy/{number}.jpg" for number in range(500)], 7
    hashes = [hashlib.sha256(f"7/{name}".encode()).hexdigest() for name in names]
    expected = [int(digest[:12], 16) < 0.2 * 16**12 for digest in hashes]
    found = validates(names, np.zeros(500, np.int64), 20, seed)
    assert found.tolist() == expected
    assert abs(found.sum() - 100) < 4 * (500 * 0.2 * 0.8) ** 0.5
    other = validates(names, np.zeros(500, np.int64), 20, 8)
    assert abs((found & other).sum() - 20) < 4 * (500 * 0.04) ** 0.5  # independent of each other
    assert (validates(names, np.zeros(500, np.int64), 40, seed) | ~found).all()


@pytest.mark.parametrize("percentage", [1, 99])
def test_two_images_are_enough_for_a_class(percentage):
    labels = np.array([0, 1, 0, 1])
    for seed in range(50):
        found = validates(["a/1", "b/1", "a/2", "b/2"], labels, percentage, seed)
        assert [found[labels == label].sum() for label in (0, 1)] == [1, 1]


def test_accents_may_be_coded_either_way():
    names = [f"rosé/{number}.jpg" for number in range(50)]
    labels = np.zeros(50, np.int64)
    other = [unicodedata.normalize("NFD", name) for name in names]
    assert other != names
    assert validates(names, labels, 20, 0).tolist() == validates(other, labels, 20, 0).tolist()


def test_both_splits_together_are_the_folder(flowers, tmp_path):
    train, val = opened(flowers), opened(flowers, "val")
    assert train.classes == val.classes == ("across", "down", "slant")
    together = [*listing(train), *listing(val)]
    assert len(set(together)) == 72
    assert {(str(path), path.parent.name) for path in flowers.rglob("*.jpg")} == set(together)
    moved = shutil.move(flowers, tmp_path / "elsewhere")
    names = [Path(val.describe(i)).relative_to(flowers) for i in range(len(val))]
    again = opened(moved, "val")
    assert [Path(again.describe(i)).relative_to(moved) for i in range(len(again))] == names
    assert listing(pickle.loads(pickle.dumps(again))) == listing(again)
    assert len(opened(moved, "val", val_percentage=50)) > len(val)
    assert len(opened(moved, "test")) == 72


def test_folders_below_a_class_belong_to_it(flowers):
    (flowers / "down/more/deep").mkdir(parents=True)
    (flowers / "down/000.jpg").rename(flowers / "down/more/deep/000.jpg")
    found = dict([*listing(opened(flowers)), *listing(opened(flowers, "val"))])
    assert found[str(flowers / "down/more/deep/000.jpg")] == "down"


def test_hidden_copies_do_not_get_into_a_split(flowers):
    """`a.jpg` may train where its copy would validate."""
    parts = [listing(opened(flowers, split)) for split in ("train", "val")]
    for path in list(flowers.rglob("*.jpg")):
        hidden = path.parent / ".checkpoints/deep"
        hidden.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, hidden)
        shutil.copy(path, path.with_name(f"._{path.name}"))
    assert [listing(opened(flowers, split)) for split in ("train", "val")] == parts
    name = next(Path(path).name for path, label in parts[0] if label == "down")
    (flowers / "t.csv").write_text(f"file,label\ndown/.checkpoints/deep/{name},a\n")
    with pytest.raises(
        UserError, match=r"t.csv:2: down/.check\S* is no image that .*, not hidden\)"
    ):
        opened(flowers, labels=str(flowers / "t.csv"))


def test_a_class_of_two_has_one_in_each_split_and_a_class_of_one_is_an_error(flowers):
    (flowers / "rare").mkdir()
    shutil.copy(flowers / "down/000.jpg", flowers / "rare/a.jpg")
    with pytest.raises(
        UserError, match=r"root_train: 1 class\(es\) with one image, first rare \(.*rare/a.jpg\)"
    ):
        opened(flowers)
    shutil.copy(flowers / "down/000.jpg", flowers / "rare/b.jpg")
    for split in ("train", "val"):
        assert [label for _, label in listing(opened(flowers, split))].count("rare") == 1


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("file,label", "{path},{label}"),
        ("Label;File Name", "{label};{path}"),
        (" image_path , class , note", " {path} , {label} , x"),
        ("path\tcategory", "{path}\t{label}"),
        ("id,breed_id,class", '"{path}",7,"{label}"'),
        ("\ufefffilename,label", ".\\{path},{label}\n"),
    ],
)
def test_a_table_gives_the_same_as_folders(flowers, header, row):
    by_folder = [listing(opened(flowers, split)) for split in ("train", "val")]
    labels = table(flowers, header, row)
    assert [listing(opened(flowers, s, labels=labels)) for s in ("train", "val")] == by_folder


@pytest.mark.parametrize("row", ["flowers/{path},{label}", "{path},{label}"])
@pytest.mark.parametrize("ending", [".jpg", ""])
def test_a_table_outside_of_the_folder_and_without_endings(row, ending, flowers, tmp_path):
    by_folder = listing(opened(flowers))
    text = Path(table(flowers, row=row)).read_text().replace(".jpg", ending)
    (tmp_path / "labels.csv").write_text(text)
    assert listing(opened(flowers, labels=str(tmp_path / "labels.csv"))) == by_folder


def test_names_alone_are_enough_where_they_are_unique(flowers):
    for number, path in enumerate(sorted(flowers.rglob("*.jpg"))):
        path.rename(path.with_name(f"{number}.jpg"))
    by_folder = listing(opened(flowers))
    assert listing(opened(flowers, labels=table(flowers, row="{name},{label}"))) == by_folder


def test_labels_that_are_numbers_are_names(flowers):
    numbers = {"across": "10", "down": "2", "slant": "007"}
    text = Path(table(flowers)).read_text()
    for name, number in numbers.items():
        text = text.replace(f",{name}\n", f",{number}\n")
    (flowers / "labels.csv").write_text(text)
    images = opened(flowers, labels=str(flowers / "labels.csv"))
    assert images.classes == ("007", "10", "2")
    assert all(numbers[Path(path).parent.name] == label for path, label in listing(images))


def test_columns_by_name_and_those_asked_for(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,image,species,class\n")
    assert columns(path) == ("image", "class")
    assert columns(path, file="id", label="species") == ("id", "species")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r": is empty; a header"),
        ("file,label\n", r": has a header, but no rows"),
        (
            "file,breed\n",
            r":1: no column of labels \(label, .*among file, breed; say which .*label_column=",
        ),
        ("\nwhat,label\n", r":2: no column of file names"),
        (
            "file,label\nX0,a\ndown/999.jpg,b\n",
            r":3: no image down/999.jpg below .*flowers; correct",
        ),
        ("file,label\nX0,a\n\n X1 ,\n", r":4: nothing in 'label'"),
        ("file,label\n,a\n", r":2: nothing in 'file'"),
        ("file,label\nX0,a\nX1,a\nX0,b\n", r":4: down/000.jpg stands in line 2 already"),
        ("file,label\nX0,a,b\n", r":2: 3 fields, but the header has 2"),
        (
            "file,label\n000.jpg,a\n",
            r":2: 3 images are called 000.jpg, e.g. across/000.jpg and down/0",
        ),
        ("file,label\nnotes.txt,a\n", r":2: notes.txt is no image that is read \(.jpg"),
    ],
)
def test_mistakes_in_a_table_name_their_line(text, message, flowers):
    text = text.replace("X0", "down/000.jpg").replace("X1", "down/001.jpg")
    (flowers / "t.csv").write_text(text)
    (flowers / "notes.txt").write_text("")
    with pytest.raises(UserError, match="t.csv" + message):
        opened(flowers, labels=str(flowers / "t.csv"))


def test_a_test_folder_needs_a_table_of_its_own_images(flowers, tmp_path):
    labels = table(flowers)
    assert len(opened(flowers, "test", labels=labels)) == 72
    some = tmp_path / "some"
    for name in ("across", "down"):
        shutil.move(flowers / name, some / name)
    with pytest.raises(
        UserError,
        match=r"labels.csv:2: no image slant/\d+.jpg below \S*some; dataset.root_test "
        r"needs a table of its own images \(dataset.image_folder.labels=FILE\)$",
    ):
        opened(some, "test", labels=labels)
    images = opened(some, "test", labels=table(some))
    assert (len(images), images.classes) == (48, ("across", "down"))


def test_a_table_in_another_encoding_and_none_at_all(flowers):
    (flowers / "t.csv").write_bytes("file,label\n1.jpg,rosé\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"t.csv:2: not UTF-8 text; save the file as CSV UTF-8"):
        opened(flowers, labels=str(flowers / "t.csv"))
    with pytest.raises(UserError, match=r"x.csv: cannot read the table of labels \(No such file"):
        opened(flowers, labels="x.csv")
    (flowers / "t.csv").write_text("file,label\n")
    with pytest.raises(
        UserError, match=r"t.csv:1: no column is called 'lable' .* - did you mean label"
    ):
        opened(flowers, labels=str(flowers / "t.csv"), label_column="lable")
    with pytest.raises(
        UserError, match=r"image_folder.file_column: is read only with a table of labels"
    ):
        opened(flowers, file_column="file")
