"""Made-up results with their statistics."""

from __future__ import annotations

import pytest
from made_up_results import make_config, write_results

from midas.analysis.statistics.writing import statistics
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    plan = Plan(make_config(tmp_path_factory.mktemp("figures")))
    write_results(plan)
    statistics(PresentRun(config=plan.config), plan.root / "analysis")
    return plan
