"""Options that were given but have no effect beside the others: each is named, none is ignored."""

from __future__ import annotations

from cvnets.kinds import CLASSIFIERS
from engine.recipe import Recipe


def without_effect(recipe: Recipe) -> list[str]:
    """One line per option that was given and that nothing will read in this run."""
    classifier, augment = recipe.model.classification, recipe.image_augmentation
    base = (
        "evaluation resizes the short side to the sampler's base size + 32 and crops the base size"
    )
    vbs = getattr(recipe.sampler, "vbs", None)
    growing = vbs is not None and vbs.scale_inc
    by_steps = recipe.scheduler.is_iteration_based
    network = CLASSIFIERS[classifier.name].component
    fixed = getattr(network, "fixed_activation", False)
    mit = "model.classification.mit.transformer_norm_layer"
    table = [
        ("scheduler.max_epochs", by_steps, "is_iteration_based counts max_iterations instead"),
        (
            "model.classification.activation.inplace",
            not classifier.activation.name,
            "no name is given",
        ),
        (
            "model.classification.activation.neg_slope",
            not classifier.activation.name,
            "no name is given",
        ),
        *(
            (key, fixed, f"{classifier.name} has its own activations")
            for key in ("model.activation.name", "model.classification.activation.name")
        ),
        ("sampler.vbs.ep_intervals", not growing, "sampler.vbs.scale_inc is false"),
        ("sampler.vbs.min_scale_inc_factor", not growing, "sampler.vbs.scale_inc is false"),
        ("sampler.vbs.max_scale_inc_factor", not growing, "sampler.vbs.scale_inc is false"),
        (
            "sampler.truncated_repeat_aug_sampler",
            recipe.sampler.num_repeats == 1,
            "sampler.num_repeats is 1",
        ),
        ("image_augmentation.resize.enable", not augment.resize.enable, f"without it, {base}"),
        (
            "image_augmentation.center_crop.enable",
            not augment.center_crop.enable,
            f"without it, {base}",
        ),
        (mit, True, "the official networks always use layer_norm there"),
    ]
    return [
        f"{recipe.origins[key]}: {key} has no effect: {reason}"
        for key, idle, reason in table
        if idle and key in recipe.origins
    ]
