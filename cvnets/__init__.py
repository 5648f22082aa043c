"""Light-weight networks for classification, detection and segmentation."""

import cvnets.models.detection  # noqa: F401 - registers the detectors
from cvnets.api import create_model, list_models
from cvnets.weights.fit import LoadReport
from cvnets.weights.load import load_weights

__version__ = "0.1.0"

__all__ = ["LoadReport", "__version__", "create_model", "list_models", "load_weights"]
