"""`python -m resd_bench`."""

import sys

from resd_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
