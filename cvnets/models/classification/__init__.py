"""Networks that classify images, one file per family; importing this registers them."""

from __future__ import annotations

from typing import Any

from cvnets.models.classification import mobilevit

# Variant name -> registered name and options.
VARIANT_NAMES: dict[str, tuple[str, dict[str, Any]]] = {**mobilevit.NAMES}
