"""Every key is described: in the code, in the schema and in the table of keys."""

import json

import midas.config.method
import midas.config.settings
from midas.config import keys as config
from midas.config.further.functions import Functions
from midas.config.further.neighbourhoods import Neighbourhoods
from midas.config.further.proxies import Proxies, Robust
from midas.config.further.ranks import Ranks
from midas.config.keys import Analysis, Config, Experiment
from midas.config.kinds import Strict
from midas.config.method import Method
from midas.config.parts import PARTS
from midas.config.settings import Cost, Retrain, RetrainChanges, Search, SearchChanges, Transfer, UserDataset

MODELS = [
    Config,
    Method,
    *PARTS.values(),
    Search,
    SearchChanges,
    Retrain,
    RetrainChanges,
    Transfer,
    Cost,
    UserDataset,
    Experiment,
    Analysis,
    Functions,
    Proxies,
    Ranks,
    Robust,
    Neighbourhoods,
]


def test_every_key_is_described():
    models = [
        value
        for module in (config, midas.config.settings, midas.config.method)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Strict) and not value.__name__.startswith("_")
    ]
    assert set(MODELS) == set(models) - {Strict}
    for model in MODELS:
        for name, field in model.model_fields.items():
            assert len(field.description or "") > 5, f"{model.__name__}.{name}"


def test_the_schema_describes_every_key():
    schema = json.loads(config.schema())
    described = {"Config": schema, **schema["$defs"]}
    for model in MODELS:
        properties = described[model.__name__]["properties"]
        assert list(properties) == list(model.model_fields)
        assert all("description" in key for key in properties.values())
        assert described[model.__name__]["additionalProperties"] is False


def test_the_table_has_a_row_for_every_key():
    rows = [line for line in config.table().splitlines() if line.startswith("| `")]
    rowed = [model for model in MODELS if model not in (SearchChanges, RetrainChanges)]  # keys of others
    assert len(rows) == sum(len(model.model_fields) for model in rowed)
    for model in rowed:
        for name, field in model.model_fields.items():
            assert any(row.startswith(f"| `{name}` |") and row.endswith(f"| {field.description} |") for row in rows)
