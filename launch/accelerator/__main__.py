"""Runs the kit: `python -m giajax.launch.accelerator`."""

import sys

from .kit import main

sys.exit(main(sys.argv))
