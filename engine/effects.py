"""Options that were given but have no effect beside the others: each is named, none is ignored."""

from __future__ import annotations

from collections.abc import Iterator

from cvnets.kinds import CLASSIFIERS
from engine.reading import task_name
from engine.recipe import Recipe

Row = tuple[str, bool, str]  # an option, whether it is idle in this run, why


def without_effect(recipe: Recipe) -> list[str]:
    """One line per option that was given and that nothing will read in this run."""
    rows = [
        *_of_the_network(recipe),
        *_of_detection(recipe),
        *_of_segmentation(recipe),
        *_of_training(recipe),
    ]
    return [
        f"{recipe.origins[key]}: {key} has no effect: {reason}"
        for key, idle, reason in rows
        if idle and key in recipe.origins
    ]


def _of_the_network(recipe: Recipe) -> Iterator[Row]:
    own = recipe.model.classification
    prefix = "model.classification"
    network = CLASSIFIERS[own.name].registered
    fixed = getattr(network, "fixed_activation", False)
    for key in ("inplace", "neg_slope"):
        yield f"{prefix}.activation.{key}", not own.activation.name, "no name is given"
    for key in ("model.activation.name", f"{prefix}.activation.name"):
        yield key, fixed, f"{own.name} has its own activations"
    for key in recipe.origins:
        if key.startswith(("model.layer.", "model.normalization.")):
            synchronised = key.endswith(".name") and recipe.model.normalization.synchronised
            reason = f"the layers of {own.name} are those of its library"
            yield key, getattr(network, "own_layers", False) and not synchronised, reason
    yield from _of_the_style(recipe)
    layer_norm = "the official networks always use layer_norm there"
    yield f"{prefix}.mit.transformer_norm_layer", True, layer_norm
    yield f"{prefix}.vit.use_pytorch_mha", True, "torch's attention is always used"
    stored = not own.gradient_checkpointing
    yield f"{prefix}.vit.checkpoint_segments", stored, "gradient_checkpointing is false"
    classifies = task_name(recipe) == "classification"
    pyramid = "only detection and segmentation read its maps"
    yield f"{prefix}.vit.use_simple_fpn", classifies, pyramid


def _of_detection(recipe: Recipe) -> Iterator[Row]:
    detects = task_name(recipe) == "detection"
    for key in recipe.origins:
        if key.startswith(("model.detection.", "anchor_generator.", "matcher.", "loss.detection.")):
            yield key, not detects, f"the task is {task_name(recipe)}"
    whole = recipe.model.detection.pretrained
    backbone = "model.detection.pretrained holds the backbone's weights as well"
    yield "model.classification.pretrained", detects and whole is not None, backbone
    for key in ("classifier_dropout", "n_classes"):
        yield f"model.classification.{key}", detects, "a detector has no classifier"
    for key in ("enable", "size"):
        crop = "detection sees whole images"
        yield f"image_augmentation.center_crop.{key}", detects, crop
        yield f"image_augmentation.random_resized_crop.{key}", detects, crop
    used = getattr(recipe.model.detection, "ssd", None)
    pyramid = used is not None and used.use_fpn
    yield "model.detection.ssd.fpn_out_channels", detects and not pyramid, "use_fpn is false"


def _of_segmentation(recipe: Recipe) -> Iterator[Row]:
    task = task_name(recipe)
    segments, own = task == "segmentation", recipe.model.segmentation
    # an old spelling gives it to both tasks
    shared = "loss.segmentation.cross_entropy.ignore_index"
    for key in recipe.origins:
        if key.startswith(("model.segmentation.", "loss.segmentation.")) and key != shared:
            yield key, not segments, f"the task is {task}"
    backbone = "model.segmentation.pretrained holds the backbone's weights as well"
    whole = segments and own.pretrained is not None
    yield "model.classification.pretrained", whole, backbone
    for key in ("classifier_dropout", "n_classes"):
        reason = "a network of segmentation has no such classifier"
        yield f"model.classification.{key}", segments, reason
    without = not own.use_aux_head
    for key in ("model.segmentation.aux_dropout", "loss.segmentation.cross_entropy.aux_weight"):
        yield key, segments and without, "model.segmentation.use_aux_head is false"
    for head in ("deeplabv3", "pspnet"):
        for key in recipe.origins:
            if key.startswith(f"model.segmentation.{head}."):
                yield key, segments and own.seg_head != head, f"the head is {own.seg_head}"


def _of_the_style(recipe: Recipe) -> Iterator[Row]:
    layer, norm = recipe.model.layer, recipe.model.normalization
    for kind in ("conv", "linear"):
        name = getattr(layer, f"{kind}_init")
        drawn = name in ("normal", "trunc_normal")
        yield f"model.layer.{kind}_init_std_dev", not drawn, f"{kind}_init is {name}"
    yield "model.normalization.groups", norm.name != "group_norm", f"{norm.name} has no groups"
    counts = "batch_norm" in norm.name
    yield "model.normalization.momentum", not counts, f"{norm.name} keeps no running statistics"
    active = recipe.model.activation.name
    sloped = active is None or active in ("leaky_relu", "prelu")
    yield "model.activation.neg_slope", not sloped, f"{active} has no slope"


def _of_training(recipe: Recipe) -> Iterator[Row]:
    augment, sampler = recipe.image_augmentation, recipe.sampler
    counted = "is_iteration_based counts max_iterations instead"
    yield "scheduler.max_epochs", recipe.scheduler.is_iteration_based, counted
    vbs = getattr(sampler, "vbs", None)
    growing = vbs is not None and vbs.scale_inc
    for key in ("ep_intervals", "min_scale_inc_factor", "max_scale_inc_factor"):
        yield f"sampler.vbs.{key}", not growing, "sampler.vbs.scale_inc is false"
    once = sampler.num_repeats == 1
    yield "sampler.truncated_repeat_aug_sampler", once, "sampler.num_repeats is 1"
    base = (
        "without it, evaluation resizes the short side to the sampler's base size + 32 and crops "
        "the base size"
    )
    classifies = task_name(recipe) == "classification"
    yield "image_augmentation.resize.enable", classifies and not augment.resize.enable, base
    idle = classifies and not augment.center_crop.enable
    yield "image_augmentation.center_crop.enable", idle, base
