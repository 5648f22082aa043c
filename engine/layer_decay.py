"""Learning rates that fall from the last layer to the first.

After Howard and Ruder, "Universal language model fine-tuning", ACL 2018, section 3.2, and Clark et
al., "ELECTRA", ICLR 2020, appendix A.
"""

from __future__ import annotations

from torch import nn

from config.errors import UserError
from cvnets.models.encoder import ImageEncoder
from engine.model_section import ClassifierSection

KEY = "model.classification.enable_layer_wise_lr_decay"


def layer_multipliers(section: ClassifierSection, model: nn.Module) -> dict[str, float]:
    """Parts of the network of `model.classification` inside `model` -> learning rate over the full one.

    Layer i of n + 1 has rate ^ (n - i): the last one, with the classifier, has 1. A layer is a block
    of a ViT and a stage of other networks. Empty if the recipe does not ask for it; UserError for
    networks whose layers are not known here.
    """
    if not section.enable_layer_wise_lr_decay:
        return {}
    inner = getattr(model, "encoder", None)
    encoder, prefix = (inner, "encoder.") if isinstance(inner, ImageEncoder) else (model, "")
    layers = encoder.layers_in_order() if isinstance(encoder, ImageEncoder) else ()
    if not layers:
        raise UserError(f"{KEY}: the layers of {section.name} are not known; set it to false")
    last = len(layers) - 1
    return {
        prefix + part: section.layer_wise_lr_decay_rate ** (last - depth)
        for depth, parts in enumerate(layers)
        for part in parts
    }
