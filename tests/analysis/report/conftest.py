"""The demo with all results that the page shows."""

from __future__ import annotations

import pytest
from made_up_claims import make_config
from made_up_page import write_results


@pytest.fixture
def demo(tmp_path):
    return write_results(make_config("config", tmp_path / "results", figures_dir=str(tmp_path / "figures")))
