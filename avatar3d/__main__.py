"""`python -m avatar3d`: the command line where no script is on the path."""

import sys

from avatar3d.cli.main import main

sys.exit(main())
