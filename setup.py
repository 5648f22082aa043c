"""Installs every package and the two main modules; options of tools stand in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
PACKAGES = ("config", "cvnets", "data", "engine", "loss_fn", "optim")
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "cvnets/__init__.py").read_text()).group(1)

setup(
    name="cvnets",
    version=VERSION,
    description="Train and evaluate light-weight vision models: the MobileViT family and its neighbours",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[f"{name}{below}" for name in PACKAGES for below in ("", ".*")]),
    py_modules=["main_train", "main_eval"],
    package_data={name: ["py.typed"] for name in PACKAGES}
    | {"config": ["py.typed", "**/*.yaml"], "cvnets": ["py.typed", "weights/zoo.yaml"]}
    | {"data": ["py.typed", "datasets/classification/imagenet_synsets.txt"]},
    install_requires=[
        "torch>=2.6",
        "torchvision",
        "pycocotools",
        "opencv-python",
        "pyyaml",
        "tensorboard",
        "pydantic>=2.7",
        "rich",
        "matplotlib",
    ],
    extras_require={
        "timm": ["timm>=1.0.31"],  # the version that was tested
        "safetensors": ["safetensors"],
        "coco": ["faster-coco-eval>=1.8.0"],  # likewise
        "dev": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "ruff",
            "mypy",
            "types-PyYAML",
            "timm",
            "transformers",
            "safetensors",
            "faster-coco-eval",
            "scikit-learn",
        ],
    },
    entry_points={
        "console_scripts": [
            "cvnets = engine.command_line:main",
            "cvnets-train = main_train:main",
            "cvnets-eval = main_eval:main",
            "cvnets-eval-det = main_eval:main",
            "cvnets-eval-seg = main_eval:main",
        ]
    },
)
