"""`python -m wfm.command` is `wfm`."""

import sys

from wfm.command import main

sys.exit(main())
