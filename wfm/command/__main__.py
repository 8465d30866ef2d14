"""`python -m wfm.command` is `wfm`."""

import sys

from wfm.command import main

if __name__ == "__main__":
    sys.exit(main())
