"""The kinds of losses, one per category; a loss needs nothing but its own options."""

from config.registry import Registry

CLASSIFICATION_LOSSES = Registry(
    "classification loss", section="loss.classification.name", context={}
)
