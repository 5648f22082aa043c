"""`cvnets env`."""

from __future__ import annotations

import json

from engine.commands.arguments import Arguments


def run(words: list[str]) -> int:
    """Print versions and devices as JSON; exit code 0."""
    Arguments("cvnets env", description="versions and devices, for a bug report").parse_args(words)
    from engine.run_folder import environment

    print(json.dumps(environment(), indent=2))
    return 0
