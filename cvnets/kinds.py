"""The registries of this floor."""

from __future__ import annotations

from config.registry import Registry

CLASSIFIERS = Registry(
    "classification model",
    section="model.classification.name",
    context={
        "style": "LayerStyle: makes norms, activations and start values",
        "num_classes": "number of classes, from the data set",
        "classifier_dropout": "dropout in front of the classifier; None: the network's own rate",
        "output_stride": "input size over size of the last map: 8, 16, 32 or None (32)",
    },
)
DETECTORS = Registry(
    "detection model",
    section="model.detection.name",
    context={
        "encoder": "ImageEncoder with all its levels; the detector cuts it to those it needs",
        "style": "LayerStyle of the layers behind the encoder",
        "num_classes": "number of classes, the background (0) included",
        "anchors": "the anchor generator",
        "matcher": "the matcher, which decodes boxes",
    },
)
ANCHOR_GENERATORS = Registry("anchor generator", section="anchor_generator.name", context={})
MATCHERS = Registry("matcher", section="matcher.name", context={})
SEGMENTORS = Registry(
    "segmentation model",
    section="model.segmentation.name",
    context={
        "encoder": "ImageEncoder with all its levels; the network cuts it to those it needs",
        "seg_head": "the head, which names the levels it reads",
    },
)
SEGMENTATION_HEADS = Registry(
    "segmentation head",
    section="model.segmentation.seg_head",
    context={
        "channels": "level of the backbone -> channels of its map",
        "level": "the level it looks at: l5 or l5_exp",
        "num_classes": "number of classes, the background included where it is one",
        "aux_dropout": "dropout of the auxiliary head in training; None: no such head",
        "style": "LayerStyle of its layers",
    },
)
