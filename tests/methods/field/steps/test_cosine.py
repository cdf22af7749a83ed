"""The learning rate of the weights against the base protocols' cosines."""

import json

import pytest
from stepping import made


@pytest.mark.parametrize(
    ("row", "lr", "lr_min"), [("weights_lr_darts_50", 0.025, 0.001), ("weights_lr_pc_darts_50", 0.1, 0.0)]
)
def test_the_learning_rate_is_the_cosine_of_the_base_protocols(shared_data, row, lr, lr_min):
    path = shared_data / "reference" / "schedules.json"
    if not path.is_file():
        pytest.skip("needs the reference values in ../shared/data/reference")
    search = made(lr=lr, lr_min=lr_min, epochs=50)
    found = []
    for epoch in range(50):
        search.begin(epoch)
        found.append(search.weight_optimizer.param_groups[0]["lr"])
    assert found == pytest.approx(json.loads(path.read_text())[row], rel=1e-9, abs=1e-12)
