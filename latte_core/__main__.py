"""`python -m latte_core`."""

import sys

from latte_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
