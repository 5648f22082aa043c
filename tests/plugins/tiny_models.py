"""Two small networks for tests: they train in milliseconds."""

from pydantic import Field
from torch import nn

from config.options import Options
from cvnets.kinds import CLASSIFIERS


class TinyOptions(Options):
    """`model.classification.tiny`."""

    width: int = Field(8, ge=1, description="channels")
    norm: bool = Field(False, description="batch norm after the convolution")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the classifier")


@CLASSIFIERS.register("tiny", options=TinyOptions)
def tiny(options, *, style, num_classes, classifier_dropout, output_stride):
    """A strided convolution, pooling, a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, options.width, 5, 3),
        nn.BatchNorm2d(options.width) if options.norm else nn.Identity(),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Dropout(options.dropout),
        nn.Linear(options.width * 9, num_classes),
    )
