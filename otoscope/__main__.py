"""``python -m otoscope``."""

from otoscope.cli import main

main()
