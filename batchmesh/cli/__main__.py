"""`python -m batchmesh.cli`."""

from __future__ import annotations

import sys

from batchmesh.cli import main

sys.exit(main())
