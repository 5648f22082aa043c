"""A generated data set: textured forms in the layouts of ImageNet, COCO, PASCAL VOC and ADE20K.

Every image is a pure function of (seed, split, index). The difficulty is fixed: classes are told
apart by form alone, and tests hold simple classifiers under 50 %.
"""

from data.datasets.shapes.layouts import ADE20K_GROUND, COCO_IDS, LAYOUTS, generate
from data.datasets.shapes.outlines import CLASSES
from data.datasets.shapes.pictures import Picture, classification_image
from data.datasets.shapes.scenes import Item, Scene, Style, scene

__all__ = [
    "ADE20K_GROUND",
    "CLASSES",
    "COCO_IDS",
    "LAYOUTS",
    "Item",
    "Picture",
    "Scene",
    "Style",
    "classification_image",
    "generate",
    "scene",
]
