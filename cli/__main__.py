"""``python -m cli`` is ``triton-video``."""

from cli.main import main

if __name__ == "__main__":
    main()
