"""``python -m consumers.cli``: the same as ``vip-router``."""

from __future__ import annotations

import sys

from consumers.cli.main import main

sys.exit(main())
