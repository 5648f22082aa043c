"""`cvnets env`."""

from __future__ import annotations

import json


def run(words: list[str]) -> int:
    """Print versions and devices as JSON; exit code 0."""
    if words:
        print("usage: cvnets env")
        return 0 if words[0] in ("-h", "--help") else 2
    from engine.run_folder import environment

    print(json.dumps(environment(), indent=2))
    return 0
