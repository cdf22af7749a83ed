"""A configuration with every table, its made-up results, and its tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pandas as pd
import pytest
from made_up_results import (
    with_config,
    write_results,
)
from made_up_tables import VARIANTS, Rendered, full_config, make_table

from midas.plan.plan import Plan


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    plan = full_config(tmp_path_factory.mktemp("tables"))
    write_results(plan, images=60)
    rows = [
        {"method": method, "seed": seed, "conv_spread": 0.01 * place + 0.1 * seed, "tested": 40, "rejected": 4 * seed}
        | {"group_difference": 0.2 - place, "group_p_value": 0.04 if seed else 0.06}
        for place, method in enumerate(plan.attending())
        for seed in plan.config.seeds
    ]
    (plan.root / "analysis").mkdir()
    pd.DataFrame(rows).to_csv(plan.root / "analysis/variants.csv", index=False)
    return plan


@pytest.fixture(scope="session")
def table(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Rendered]:
    """Makes a table of the made-up results, each once."""

    @cache
    def render(number: int, variant: str = "several seeds") -> Rendered:
        return make_table(with_config(plan, **VARIANTS[variant]), number, tmp_path_factory.mktemp("table"))

    return render
