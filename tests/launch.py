"""Starts the command line in a process of its own, as the installed `cvnets` does."""

import sys

from engine.command_line import main

sys.exit(main())
