"""`python -m lifecycle ...`, which is what torchrun starts in each process."""

from lifecycle.cli import main

if __name__ == "__main__":
    main(prog_name="lifecycle")
