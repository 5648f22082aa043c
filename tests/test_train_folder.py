"""`cvnets train FOLDER`: a recipe for one's own images, made, kept, and trained by the same engine."""

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import cvnets
from config.errors import RecipeError, UserError
from engine.checkpoint import write_weights
from engine.command_line import main
from engine.fine_tuning import fine_tuning, keep_recipe
from engine.reading import load_recipe
from engine.resolved import flat

PLUGIN = Path(__file__).parent / "plugins/tiny_models.py"
TINY = ["--model", "tiny", "dataset.workers=0", "common.device=cpu"]
TINY += ["common.tensorboard_logging=false", "scheduler.cosine.max_lr=0.01"]
STOPPER = '''
import os
import signal

from engine.kinds import OBSERVERS
from engine.observers.observer import Observer


@OBSERVERS.register("stopper")
class Stopper(Observer):
    """Asks the run to stop in the second epoch."""

    def __init__(self, options, *, folder, quiet):
        pass

    def on_step(self, record):
        if record.iteration == 12:
            os.kill(os.getpid(), signal.SIGTERM)
'''


@pytest.fixture
def place(image_folder, tmp_path, monkeypatch):
    """A folder to work in, with flowers/ (a folder per class) and split/ (train/ and val/)."""
    shutil.copytree(image_folder / "train", tmp_path / "flowers")
    shutil.copytree(image_folder, tmp_path / "split")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CVNETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def train(place, capsys):
    """Run `cvnets train ...` with the tiny network here; gives what it prints."""

    def run(*words, code=0):
        found = main(["train", *map(str, words), f"common.plugins={PLUGIN}", *TINY])
        done = capsys.readouterr()
        assert found == code, done.out + done.err
        return done.out if code == 0 else done.err

    return run


def made(folder, *overrides, **options):
    """The options of the recipe for a folder, and the lines on it."""
    found = fine_tuning(Path(folder), overrides, **({"from_scratch": True} | options))
    return flat(found.recipe), found.lines


def weights(run, name="checkpoint_last.pt"):
    return torch.load(Path(run) / name, weights_only=True)


def table(place, name="labels.csv", header="file,label"):
    """A CSV file for the images of flowers/, in it."""
    paths = sorted((place / "flowers").rglob("*.jpg"))
    lines = [f"{path.relative_to(place / 'flowers')},{path.parent.name}" for path in paths]
    (place / "flowers" / name).write_text("\n".join([header, *lines]) + "\n")


# --- training ------------------------------------------------------------------------------------


def test_it_learns_and_says_what_it_found_and_chose(train):
    small = [f"sampler.bs.crop_size_{side}=32" for side in ("width", "height")]
    small += [f"image_augmentation.{step}.size=32" for step in ("resize", "center_crop")]
    words = [*small, "model.classification.tiny.norm=true", "dataset.train_batch_size0=4"]
    out = " ".join(train("flowers", "--epochs", 6, *words).split())
    assert (
        "flowers: 3 classes (across, down, slant); images: 63 for training and 9 for valid" in out
    )
    assert "classes: the folders in flowers" in out
    assert "split: 20 % of the images of each class validate, chosen by a hash of seed 0" in out
    assert "network: tiny (norm True), from scratch" in out
    assert "6 epochs in batches of 4 per process, images of 32 pixels" in out
    best = json.loads(Path("results/flowers/summary.json").read_text())["best"]["model"]
    assert best["top1"] > 80  # chance is 33
    assert main(["eval", "results/flowers/checkpoint_best.pt", "dataset.workers=0"]) == 0


def test_a_table_trains_the_same_as_folders(train, place):
    train("flowers", "--epochs", 2)
    table(place)
    shutil.move("flowers/labels.csv", "labels.csv")
    train("flowers", "--epochs", 2, "--labels", "labels.csv", "common.run_label=table")
    first, second = weights("results/flowers"), weights("results/table")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_recipe_that_was_kept_continues_and_repeats_the_run_bit_for_bit(train, place):
    train("flowers", "--epochs", 3)
    (place / "stopper.py").write_text(STOPPER)
    stop = [f"common.plugins={PLUGIN},stopper.py", "common.observers=stopper", "common.log_freq=1"]
    words = ["train", "flowers", *TINY, "--epochs", "3", "common.run_label=stopped", *stop]
    assert main(words) == 3
    assert not Path("results/stopped/summary.json").exists()
    assert main(["train", "results/stopped/recipe.yaml"]) == 0
    repeated = ["train", "results/flowers/recipe.yaml", "common.results_loc=again"]
    assert main(repeated) == 0
    for name in ("checkpoint_last.pt", "checkpoint_ema_last.pt", "checkpoint_best.pt"):
        first = weights("results/flowers", name)
        for other in ("results/stopped", "again/flowers"):
            second = weights(other, name)
            assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_kept_recipe_is_the_one_that_trains(place):
    words = ("common.observers=", "sampler.bs.crop_size_width=96", "common.run_label=08")
    found = fine_tuning(Path("flowers"), words, model="mobilevit_v2_0.5", from_scratch=True)
    keep_recipe(found, write=True)
    path = Path("results/08/recipe.yaml")
    assert path.read_text().startswith("# flowers: 3 classes (across, down, slant)")
    assert flat(load_recipe(path)) == flat(found.recipe)
    assert yaml.safe_load(path.read_text())["model"]["classification"] == {
        "name": "mobilevit_v2",
        "mitv2": {"width_multiplier": 0.5},
    }


def test_another_network_does_not_take_the_folder_of_a_run(train, place):
    train("flowers", "--epochs", 1)
    before = Path("results/flowers/recipe.yaml").read_bytes()
    err = train("flowers", "--epochs", 1, "model.classification.tiny.width=4", code=2)
    assert "tiny.width: was 8 when the run was started, now 4" in err
    assert "another common.run_label" in err
    assert Path("results/flowers/recipe.yaml").read_bytes() == before
    train("flowers", "--epochs", 1)  # the same command goes on, here to nothing


@pytest.mark.slow
def test_two_processes_train_the_same_number_of_steps(place, command):
    words = ["flowers", *TINY, f"common.plugins={PLUGIN}", "--epochs", 2]
    command("train", *words, cwd=place)
    command("train", *words, "common.run_label=two", cwd=place, processes=2)
    recipes = [
        yaml.safe_load(Path(f"results/{n}/recipe.yaml").read_text()) for n in ("flowers", "two")
    ]
    assert [recipe["dataset"]["train_batch_size0"] for recipe in recipes] == [8, 4]
    runs = [json.loads(Path(f"results/{n}/summary.json").read_text()) for n in ("flowers", "two")]
    assert runs[0]["steps"] == runs[1]["steps"]


# --- the folder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test", "Test"])
def test_two_folders_of_classes_are_the_splits(name, place):
    (place / "split/val").rename(place / "split" / name)
    recipe, lines = made("split")
    assert recipe["dataset.name"] == "imagenet"
    assert recipe["dataset.root_train"] == "split/train"
    assert recipe["dataset.root_val"] == f"split/{name}"
    assert "72 for training and 33 for validation" in lines[0]


def test_training_images_alone_are_split(place):
    shutil.rmtree("split/val")
    (place / "split/test").mkdir()
    shutil.copy("flowers/down/000.jpg", "split/test")  # without a class
    recipe, lines = made("split")
    assert recipe["dataset.name"] == "image_folder"
    assert recipe["dataset.root_train"] == recipe["dataset.root_val"] == "split/train"
    assert "there is no folder to validate with" in lines[1]


def test_a_table_in_the_folder_counts_if_it_names_files_and_labels(place):
    loose(place, "train", "test")
    (place / "flowers/authors.csv").write_text("who,when\nme,now\n")
    recipe, lines = made("flowers")
    assert recipe["dataset.image_folder.labels"] == "flowers/labels.csv"
    assert "classes: column 'label' of flowers/labels.csv, for the files in column 'file'" in lines
    shutil.copy("flowers/labels.csv", "flowers/again.csv")
    with pytest.raises(
        UserError, match=r"flowers/again.csv and flowers/labels.csv both name files"
    ):
        made("flowers")
    text = Path("flowers/labels.csv").read_text().replace("file,label", "file,species")
    (place / "flowers/species.tsv").write_text(text)
    chosen = (
        "dataset.image_folder.labels=flowers/species.tsv",
        "dataset.image_folder.label_column=species",
    )
    assert made("flowers", *chosen)[0]["dataset.image_folder.label_column"] == "species"


def loose(place, *folders):
    """The images of flowers/ by turns in folders that are no classes, with a table of their labels."""
    rows = ["file,label"]
    for number, path in enumerate(sorted((place / "flowers").rglob("*.jpg"))):
        name = f"{folders[number % len(folders)]}/{number}.jpg"
        (place / "flowers" / name).parent.mkdir(exist_ok=True)
        path.rename(place / "flowers" / name)
        rows.append(f"{name},{path.parent.name}")
    for name in ("across", "down", "slant"):
        (place / "flowers" / name).rmdir()
    (place / "flowers/labels.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("below", [".", "train"])
def test_class_folders_win_over_a_table_and_the_line_says_how_it_is_read(below, place):
    if below != ".":
        shutil.move("flowers", "inner")
        shutil.move("inner", place / "flowers" / below)
    (place / "flowers/classes.csv").write_text("id,class\n0,across\n1,down\n")
    recipe, lines = made("flowers")
    assert recipe["dataset.image_folder.labels"] is None
    assert lines[0].startswith("flowers: 3 classes (across, down, slant)")
    assert "not read: classes.csv (--labels FILE reads one)" in lines
    chosen, lines = made("flowers", "dataset.image_folder.labels=null")
    assert chosen["dataset.root_train"] == recipe["dataset.root_train"]
    assert not any("classes.csv" in line for line in lines)


def test_a_table_beside_class_folders_is_read_if_it_or_a_column_of_it_is_named(place):
    table(place, header="file,species")
    named = "dataset.image_folder.label_column=species"
    for words in ([named], [named, "dataset.image_folder.labels=flowers/labels.csv"]):
        recipe, lines = made("flowers", *words)
        assert recipe["dataset.image_folder.labels"] == "flowers/labels.csv"
        assert not any("not read" in line for line in lines)
    with pytest.raises(UserError, match=r"labels.csv:1: no column is called 'specie'"):
        made("flowers", "dataset.image_folder.label_column=specie")


def test_folders_are_the_classes_where_the_table_is_none_by_request(place):
    loose(place, "first", "second")
    recipe, lines = made("flowers", "dataset.image_folder.labels=null")
    assert recipe["dataset.image_folder.labels"] is None
    assert "classes: the folders in flowers" in lines
    assert "2 classes (first, second)" in lines[0]


def test_options_of_the_split_that_train_and_val_do_not_need_are_named(place):
    words = ("dataset.image_folder.val_percentage=30", "dataset.image_folder.split_seed=1")
    line = (
        "not read: dataset.image_folder.split_seed, dataset.image_folder.val_percentage (the folders "
        "are the classes and the split)"
    )
    assert line in made("split", *words)[1]
    for words in ((), ("dataset.image_folder.labels=null",)):
        assert not any("not read" in line for line in made("split", *words)[1])


def test_hidden_files_and_folders_are_no_images(place):
    """Copies of an editor, and what macOS writes beside a file, which is no image."""
    before = made("flowers")[1][0]
    (place / "flowers/down/.ipynb_checkpoints").mkdir()
    shutil.copy("flowers/down/000.jpg", "flowers/down/.ipynb_checkpoints/000-checkpoint.jpg")
    for path in sorted((place / "flowers/across").iterdir()):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")
    assert made("flowers")[1][0] == before


def test_a_table_beside_train_and_val_is_not_read_and_said_so(place):
    (place / "split/labels.csv").write_text("file,label\n")
    assert "not read: labels.csv (--labels FILE reads one)" in made("split")[1]


def empty(place):
    (place / "some").mkdir()


def without_classes(place):
    shutil.copytree("flowers/down", "some")


def one_class(place):
    shutil.copytree("flowers/down", "some/down")


def a_level_too_deep(place):
    shutil.copytree("flowers", "some/flowers")


def other_types(place):
    (place / "some/a").mkdir(parents=True)
    (place / "some/a/1.heic").write_text("")


def unreadable(place):
    shutil.copytree("flowers", "some")
    for number in range(10):
        (place / f"some/down/00{number}.jpg").write_bytes(b"")


def an_unknown_table(place):
    without_classes(place)
    (place / "some/t.csv").write_text("file,breed\n")


def of_a_run(place):
    (place / "some").mkdir()
    (place / "some/recipe.yaml").write_text("")


def splits_that_differ(place):
    shutil.copytree("split", "some")
    shutil.rmtree("some/val/down")


def one_class_in_both(place):
    for split in ("train", "val"):
        shutil.copytree("flowers/down", f"some/{split}/down")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (
            empty,
            r"^some: no image in it or below \(.jpg, .*\); it is empty; give a folder of images",
        ),
        (
            without_classes,
            r"^some: 24 image\(s\), but no class folders; put the images of each class",
        ),
        (one_class, r"^some: 24 image\(s\), but one class only, down; put"),
        (a_level_too_deep, r"^some: one class only, flowers; did you mean some/flowers\?"),
        (other_types, r"^some: no image in it or below .*; there are 1 .heic; give"),
        (
            unreadable,
            r"^some/down/00.\.jpg: the file is empty; repair or remove it \(\d of 6. images read\)",
        ),
        (an_unknown_table, r"^some/t.csv:1: no column of labels .*label_column=COLUMN"),
        (of_a_run, r"^some: is a folder of a run; cvnets train some/recipe.yaml continues it"),
        (splits_that_differ, r"dataset.root_val: its class folders differ .* it lacks down"),
        (one_class_in_both, r"dataset.root_train: one class only, down; two at least"),
    ],
)
def test_folders_that_cannot_be_trained_on(prepare, message, place):
    prepare(place)
    with pytest.raises(UserError, match=message) as raised:
        made("some")
    assert len(raised.value.lines()) == 1
    assert not Path("results").exists()


def test_names_in_any_script_and_spaces(place):
    shutil.move("flowers", "цветы 花")
    shutil.move("цветы 花/down", "цветы 花/rosé sauvage")
    recipe, lines = made("цветы 花")
    assert recipe["common.run_label"] == "цветы 花"
    assert "3 classes (across, rosé sauvage, slant)" in lines[0]


def test_results_may_not_lie_among_the_images(place, monkeypatch):
    monkeypatch.chdir("flowers")
    with pytest.raises(
        UserError, match=r"common.results_loc: results lies in the folder of images"
    ):
        made(".")
    assert made(".", "common.results_loc=../results")[0]["common.run_label"] == "flowers"


# --- the words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["flowrs"], "flowrs: no such recipe here or among the shipped ones"),
        (["demo/classification", "--model", "tiny"], "--model: is for a folder of images, and"),
        (["flowers", "--model"], "--model: a value is expected"),
        (["flowers", "--from-scratch=yes"], "--from-scratch: takes no value ('yes' given)"),
        (["flowers", "--model", "mobilvit_s"], "--model: no model is called 'mobilvit_s' - did you mean mo"),
        (["flowers", "--epochs", "x"], "command line: scheduler.max_epochs: a whole number is expected"),
        (["flowers", "--labels", "no.csv"], "no.csv: cannot read the table of labels"),
        (["flowers", "optim.weight_decy=1"], "command line: optim.weight_decy: unknown key"),
        (["flowers", "--model", "vit_tiny", "model.classification.name=vit"], "--model: model.class"),
        (["flowers", "--from-scratch", "model.classification.pretrained=x"], "--from-scratch: model."),
    ],
)  # fmt: skip
def test_mistakes_in_the_words(words, message, place, capsys):
    assert main(["train", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


# --- what is chosen ------------------------------------------------------------------------------


def test_more_images_are_trained_on_in_larger_batches_and_fewer_epochs(place, monkeypatch):
    from engine import training_choices

    asked = load_recipe({})
    chosen = {
        n: training_choices.training_keys(asked, n, scratch=False)
        for n in (40, 1000, 20_000, 10**6)
    }
    batches = [keys["dataset.train_batch_size0"] for keys in chosen.values()]
    epochs = [keys["scheduler.max_epochs"] for keys in chosen.values()]
    assert batches == [8, 32, 64, 64]
    assert epochs == [100, 100, 10, 10]
    for number, keys in chosen.items():
        steps = keys["scheduler.max_epochs"] * -(-number // keys["dataset.train_batch_size0"])
        assert keys["scheduler.warmup_iterations"] <= 0.05 * steps + 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    keys = training_choices.training_keys(asked, 1000, scratch=False)
    assert keys["dataset.train_batch_size0"] == 8
    assert keys["scheduler.warmup_iterations"] == chosen[1000]["scheduler.warmup_iterations"]
    few = training_choices.training_keys(
        load_recipe({}, ["scheduler.max_epochs=1"]), 40, scratch=True
    )
    assert few["scheduler.warmup_iterations"] == 0
    assert few["scheduler.max_epochs"] == 1


def test_named_weights_and_images_as_they_were_trained(place):
    (place / "cache").mkdir()
    state = cvnets.create_model("mobilevit_v2_0.5").state_dict()
    torch.save(state, place / "cache/mobilevit_v2_0.5.pt")
    recipe, lines = made("flowers", model="mobilevit_v2_0.5", from_scratch=False)
    assert recipe["model.classification.pretrained"] == "mobilevit_v2_0.5"
    assert recipe["model.classification.finetune_pretrained_model"] is True
    assert recipe["image_augmentation.resize.size"] == 288  # as the table says
    assert recipe["image_augmentation.center_crop.size"] == (256, 256)
    assert recipe["sampler.bs.crop_size_width"] == 256
    assert recipe["image_augmentation.resize.interpolation"] == "bicubic"
    assert recipe["image_augmentation.random_resized_crop.interpolation"] == "bicubic"
    assert recipe["image_augmentation.to_tensor.mean_std_normalization.enable"] is False
    assert any("from the weights mobilevit_v2_0.5" in line for line in lines)


def test_a_file_of_weights_says_size_and_normalisation(place):
    state = cvnets.create_model("mobilenetv1_0.25", n_classes=5).state_dict()
    about = {"channel_order": "RGB", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}
    about |= {"resize": 96, "crop": [80, 64], "interpolation": "lanczos"}
    write_weights(place / "w.pt", state, {"format": 2, "preprocessing": about})
    key = "model.classification.pretrained=w.pt"
    recipe, _ = made("flowers", key, model="mobilenetv1_0.25", from_scratch=False)
    normalization = "image_augmentation.to_tensor.mean_std_normalization"
    assert recipe[f"{normalization}.enable"] is True
    assert recipe[f"{normalization}.mean"] == (0.5, 0.4, 0.3)
    assert recipe[f"{normalization}.std"] == (0.2, 0.2, 0.1)
    assert recipe["image_augmentation.resize.size"] == 96
    assert recipe["image_augmentation.center_crop.size"] == (80, 64)
    assert recipe["sampler.bs.crop_size_height"] == 80
    assert recipe["model.classification.finetune_pretrained_model"] is False


@pytest.mark.parametrize("model", ["mobilevit_xx_small", "mobilevit_v3_small"])
def test_without_a_network_the_way_out_is_named(model, place, monkeypatch, capsys):
    """Of weights that are fetched, and of those that have no address."""

    def no_network(*words, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    assert main(["train", "flowers", "--model", model]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cvnets train flowers: model.classification.pretrained: {model}: ")
    assert line.endswith("; or train without weights: --from-scratch")
    assert not Path("results").exists()


def test_a_network_without_published_weights_starts_from_scratch(place):
    recipe, lines = made("flowers", model="efficientnet_b0", from_scratch=False)
    assert recipe["model.classification.pretrained"] is None
    assert any("from scratch" in line for line in lines)


def test_more_than_five_classes_are_measured_by_top5_as_well(place):
    rng = np.random.default_rng(0)
    for number in range(6):
        shutil.copytree("flowers/down", f"six/{rng.integers(9)}{number}")
    assert made("six")[0]["stats.val"] == ("loss", "top1", "top5")
    assert made("flowers")[0]["stats.val"] == ("loss", "top1")


def test_all_mistakes_in_keys_at_once(place):
    with pytest.raises(RecipeError) as raised:
        made("flowers", "optim.nam=x", "scheduler.max_epochs=0")
    assert len(raised.value.lines()) == 2
