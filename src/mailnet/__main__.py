"""``python -m mailnet`` is the command ``mailnet``."""

from mailnet.cli import main

if __name__ == "__main__":
    main()
