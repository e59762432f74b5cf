"""``python -m nearfar``, as torchrun starts it."""

from nearfar.cli import main

if __name__ == "__main__":
    main()
