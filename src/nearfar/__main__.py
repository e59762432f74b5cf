"""Entry point of ``python -m nearfar``, also used by torchrun."""

import sys


def main() -> None:
    """Run the command line of this process.

    Ctrl-C prints one line even during the imports, which take seconds.
    """
    try:
        from nearfar.cli import main as run
    except KeyboardInterrupt:
        print("nearfar: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
