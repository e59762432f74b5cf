"""The program, also as ``python -m nearfar``, as torchrun starts it."""

import sys


def main() -> None:
    """Run the command line of this process.

    Its imports take seconds; Ctrl-C ends them with one line, too.
    """
    try:
        from nearfar.cli import main as run
    except KeyboardInterrupt:
        print("nearfar: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
