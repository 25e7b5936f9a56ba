"""``python -m snnfast`` is the command ``snnfast``."""

from snnfast_zoo.cli import main

main()
