"""``python -m snnfast`` is the command ``snnfast``."""

from snnfast.cli import main

main()
