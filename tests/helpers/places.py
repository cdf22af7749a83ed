"""Where the repository lies, and what may lie beside it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
HELPERS = (ROOT / "tests/helpers", *(ROOT / "tests/helpers" / name for name in ("results", "supernets")))
"""What tests import of one another, for the path of a Python process that a test starts."""
