"""python -m hard."""

from hard.cli import main

main()
