"""``python -m fedorm``: the command line."""

from fedorm.cli import main

if __name__ == "__main__":
    main()
