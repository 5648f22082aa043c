"""The pipelines of each task, and what torchvision.transforms.v2 lacks."""
