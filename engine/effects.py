"""Options that were given but have no effect beside the others: each is named, none is ignored."""

from __future__ import annotations

from collections.abc import Iterator

from config.options import Options
from config.releases import RELEASE_DEFAULT
from cvnets.kinds import CLASSIFIERS
from engine.reading import task_name
from engine.recipe import Recipe
from loss_fn.section import COMPOSITE, RANGE_AUGMENT
from optim.scheduler.plan import UNLIMITED

ANNEALING = "adjust_bn_momentum"
OF_TRAINING = {
    "freeze_modules",
    *(
        f"classification.{key}"
        for key in (
            *("freeze_batch_norm", "finetune_pretrained_model", "n_pretrained_classes"),
            *("enable_layer_wise_lr_decay", "layer_wise_lr_decay_rate", "gradient_checkpointing"),
        )
    ),
}  # keys of a model that only training reads
Row = tuple[str, bool, str]  # an option, whether it is idle in this run, why


def without_effect(recipe: Recipe) -> list[str]:
    """One line per option that was given and that nothing will read in this run."""
    return [
        f"{recipe.origins[key]}: {key} has no effect: {reason}"
        for key, idle, reason in rows(recipe)
        if idle and not recipe.origins.get(key, RELEASE_DEFAULT).startswith(RELEASE_DEFAULT)
    ]


def rows(recipe: Recipe) -> Iterator[Row]:
    """All options that may be without effect, and whether they are in this run."""
    for part in (
        _of_the_network,
        _of_detection,
        _of_segmentation,
        _of_distillation,
        _of_transforms,
        _of_training,
        _of_schedule,
        _of_weights,
    ):
        yield from part(recipe)


def _of_the_network(recipe: Recipe) -> Iterator[Row]:
    own = recipe.model.classification
    prefix = "model.classification"
    network = CLASSIFIERS[own.name].registered
    fixed = getattr(network, "fixed_activation", False)
    for key in ("inplace", "neg_slope"):
        yield f"{prefix}.activation.{key}", not own.activation.name, "no name is given"
    reason = f"{own.name} has its own activations"
    yield f"{prefix}.activation.name", fixed, reason
    yield "model.activation.name", fixed and task_name(recipe) == "classification", reason
    for key in recipe.origins:
        if key.startswith(("model.layer.", "model.normalization.")) and ANNEALING not in key:
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
    weights = "max_monitor_iter is -1, so the weights of the loss stay"
    yield "loss.detection.ssd_multibox_loss.update_wt_freq", True, weights
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


def _of_distillation(recipe: Recipe) -> Iterator[Row]:
    section, own = recipe.loss, task_name(recipe)
    for key in recipe.origins:
        if key.startswith(("teacher.", "loss.distillation.")):
            yield key, not section.needs_teacher, f"loss.category is {section.category or own}"
        elif key.startswith(f"loss.{own}.") and section.category is not None:
            yield key, section.category != own, f"loss.category is {section.category}"
        learns = key.startswith("teacher.") and key.removeprefix("teacher.model.") in OF_TRAINING
        yield key, learns, "a teacher does not learn"
    for number, term in enumerate(section.composite_loss):
        prefix = f"loss.composite_loss[{number}]."
        for key in recipe.origins:
            kind, dot, _ = key.removeprefix(prefix).partition(".")
            if key.startswith(prefix) and dot:
                reason = f"{prefix}loss_category is {term.loss_category}"
                yield key, kind != term.loss_category, reason
        left_out = term.loss_category == RANGE_AUGMENT
        yield f"loss.composite_loss[{number}]", left_out, "RangeAugment is not built"
    idle = section.category != COMPOSITE
    yield "loss.composite_loss", idle, f"loss.category is {section.category or own}"


def _of_the_style(recipe: Recipe) -> Iterator[Row]:
    layer, norm = recipe.model.layer, recipe.model.normalization
    for kind in ("conv", "linear"):
        name = getattr(layer, f"{kind}_init")
        drawn = name in ("normal", "trunc_normal")
        yield f"model.layer.{kind}_init_std_dev", not drawn, f"{kind}_init is {name}"
    yield "model.normalization.groups", norm.name != "group_norm", f"{norm.name} has no groups"
    counts = "batch_norm" in norm.name
    unread = f"{norm.name} keeps no running statistics"
    yield "model.normalization.momentum", not counts, unread
    yield f"model.normalization.{ANNEALING}.enable", not counts, unread
    fixed = not norm.adjust_bn_momentum.enable
    for key in ("anneal_type", "final_momentum_value"):
        yield f"model.normalization.{ANNEALING}.{key}", fixed, f"{ANNEALING}.enable is false"
    active = recipe.model.activation.name
    sloped = active is None or active in ("leaky_relu", "prelu")
    yield "model.activation.neg_slope", not sloped, f"{active} has no slope"


def _of_transforms(recipe: Recipe) -> Iterator[Row]:
    augment, task = recipe.image_augmentation, task_name(recipe)
    classifies, prefix = task == "classification", "image_augmentation"
    new, one = "the mixed images are new ones", "a batch has one tensor of images, one of labels"
    unused = {"inplace": new, "sample_key": one, "target_key": one}
    for name in ("mixup", "cutmix"):
        for key in ("enable", "alpha", "p", *unused):
            idle = not classifies or key in unused
            reason = unused.get(key, "") if classifies else f"the task is {task}"
            yield f"{prefix}.{name}.{key}", idle, reason
    rand_augment = getattr(augment, "rand_augment", None)
    of_timm = rand_augment is not None and rand_augment.use_timm_library
    for key in ("num_ops", "magnitude", "num_magnitude_bins"):
        said = "timm_config_str says it (use_timm_library is true)"
        yield f"{prefix}.rand_augment.{key}", of_timm, said
    ours = "use_timm_library is false"
    yield f"{prefix}.rand_augment.timm_config_str", not of_timm, ours
    masks = "only segmentation has masks"
    yield f"{prefix}.random_rotate.mask_fill", task != "segmentation", masks


def _of_the_data(recipe: Recipe) -> Iterator[Row]:
    data, sampler = recipe.dataset, recipe.sampler
    for split in ("train", "val", "test"):
        yield f"dataset.collate_fn_name_{split}", True, "each task has one way to make a batch"
    whole = data.percentage_of_samples == 100 and data.num_samples_per_category < 0
    yield "dataset.sample_selection_random_seed", whole, "all images are used"
    for key in ("use_shards", "disable_shuffle_sharding"):
        shared = "every process can read all data, and the order does not depend on processes"
        yield f"sampler.{key}", True, shared
    chained = sampler.name == "chain_sampler"
    for key in recipe.origins:
        if key.startswith("sampler.chain_sampler"):
            yield key, not chained, f"sampler.name is {sampler.name}"
            validated = key.endswith("].val_batch_size0") and chained
            yield key, validated, "validation takes dataset.val_batch_size0"


def _beginnings(recipe: Recipe) -> Iterator[tuple[str, int]]:
    """What begins in some epoch, counted from 0: its key, and the first such epoch."""
    yield "common.accum_after_epoch", recipe.common.accum_after_epoch
    yield "ema.copy_at_epoch", recipe.ema.copy_at_epoch
    for key, marks in (
        ("scheduler.multi_step.milestones", _listed(recipe.scheduler, "multi_step", "milestones")),
        ("scheduler.cyclic.steps", _listed(recipe.scheduler, "cyclic", "steps")),
        ("sampler.vbs.ep_intervals", _listed(recipe.sampler, "vbs", "ep_intervals")),
    ):
        if marks:
            yield key, min(marks)


def _listed(section: Options, part: str, key: str) -> tuple[int, ...]:
    """A list of epochs in a sub-section; empty if nothing is there."""
    return tuple(getattr(getattr(section, part, None), key, None) or ())


def _of_training(recipe: Recipe) -> Iterator[Row]:
    augment, sampler = recipe.image_augmentation, recipe.sampler
    solved = recipe.expected.effective_batch is not None and recipe.common.batch_policy == "solve"
    for key in ("accum_freq", "accum_after_epoch"):
        yield f"common.{key}", solved, "common.batch_policy is solve"
    epochs = (
        UNLIMITED if recipe.scheduler.is_iteration_based else recipe.scheduler.plan().max_epochs
    )
    for key, first in _beginnings(recipe):
        yield key, first >= epochs, f"the run has {epochs} epochs"
    cyclic = getattr(recipe.scheduler, "cyclic", None)
    if cyclic is not None:
        behind = cyclic.last_start
        for key in ("last_cycle_type", "last_cycle_end_lr"):
            reason = f"the last cycle starts behind epoch {behind}, and the run has {epochs} epochs"
            yield f"scheduler.cyclic.{key}", behind >= epochs, reason
    counted = "is_iteration_based counts max_iterations instead"
    yield "scheduler.max_epochs", recipe.scheduler.is_iteration_based, counted
    vbs = getattr(sampler, "vbs", None)
    growing = vbs is not None and vbs.scale_inc
    for key in ("ep_intervals", "min_scale_inc_factor", "max_scale_inc_factor"):
        yield f"sampler.vbs.{key}", not growing, "sampler.vbs.scale_inc is false"
    constant = "multi_scale_sampler never grows its sizes, in any release"
    yield "sampler.msc.scale_inc", True, constant
    yield from _of_the_data(recipe)
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


def _of_schedule(recipe: Recipe) -> Iterator[Row]:
    schedule = recipe.scheduler
    period = schedule.name in ("cosine", "polynomial") and not schedule.is_iteration_based
    whole = "only the cosine and polynomial schedules by epochs have such a period"
    yield "scheduler.adjust_period_for_epochs", not period, whole
    steps, cycles = getattr(schedule, "multi_step", None), getattr(schedule, "cyclic", None)
    if schedule.name == "multi_step" and steps is not None:
        yield "scheduler.multi_step.gamma", not steps.milestones, "there are no milestones"
        yield "scheduler.multi_step.milestones", steps.gamma is None, "gamma is null"
    if schedule.name == "cyclic" and cycles is not None:
        yield "scheduler.cyclic.gamma", not cycles.steps, "there are no steps"


def _of_weights(recipe: Recipe) -> Iterator[Row]:
    without = not recipe.ema.enable
    for key in ("ema.momentum", "ema.warmup", "ema.copy_at_epoch", "common.finetune_ema"):
        yield key, without, "ema.enable is false"
    for key in ("stats.patience", "common.k_best_checkpoints"):
        yield key, recipe.dataset.disable_val, "dataset.disable_val is true"
    own, dense = recipe.model.classification, task_name(recipe) != "classification"
    prefix = "model.classification"
    even = not own.enable_layer_wise_lr_decay
    yield f"{prefix}.layer_wise_lr_decay_rate", even, "enable_layer_wise_lr_decay is false"
    new, none = "finetune_pretrained_model", "no weights are given"
    yield f"{prefix}.{new}", dense, "the classifier is cut off"
    for section in ("classification", "segmentation"):
        given = getattr(recipe.model, section).pretrained
        alone = given is None and not (dense and section == "classification")
        yield f"model.{section}.{new}", alone, none
        yield f"model.{section}.n_pretrained_classes", given is None, none
