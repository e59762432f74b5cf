"""Entry point of ``python -m nearfar``, also used by torchrun."""

import sys


def main() -> None:
    """Run the command given on the command line.

    Ctrl-C prints a one-line message even while modules are imported, which takes seconds.
    """
    try:
        from nearfar.cli import main as run
    except KeyboardInterrupt:
        print("nearfar: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
