"""Light-weight networks for classification, detection and segmentation."""

import cvnets.models.detection
import cvnets.models.segmentation  # noqa: F401 - registers the networks of segmentation
from cvnets.api import create_model, list_models
from cvnets.weights.fit import LoadReport
from cvnets.weights.load import load_weights

__version__ = "0.1.0"

__all__ = ["LoadReport", "__version__", "create_model", "list_models", "load_weights"]
