"""The kinds of losses, one per category."""

from config.registry import Registry

CLASSIFICATION_LOSSES = Registry(
    "classification loss", section="loss.classification.name", context={}
)
DETECTION_LOSSES = Registry(
    "detection loss",
    section="loss.detection.name",
    context={"matcher": "the matcher of the recipe: who is responsible for which object"},
)
SEGMENTATION_LOSSES = Registry("segmentation loss", section="loss.segmentation.name", context={})
DISTILLATION_LOSSES = Registry(
    "distillation loss",
    section="loss.distillation.name",
    context={
        "teacher": "images [B, 3, H, W] as the student gets them -> logits [B, C], no gradient"
    },
)
