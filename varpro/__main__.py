"""`python -m varpro` and the `varpro` command."""

from .app.entry import main as main

if __name__ == "__main__":
    main()
