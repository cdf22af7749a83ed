"""The file of claims: a mistake in it is one line with file, claim, key and value."""

from __future__ import annotations

import pytest
import yaml

from midas.plan.claims import read_claims

CLAIM = {
    "id": "C1", "text": "t", "metric": "top1", "spaces": ["darts"], "dataset": "cifar10", "expected": 90, "seeds": 3,
    "from_size": "demo", "source": "s", "assumptions": "a",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"from_size": "huge"}, "C1.from_size: 'huge' is not allowed; allowed: demo, paper"),
        ({"metric": "best"}, "C1.metric: 'best' is not allowed; input should be 'optimal_cell', 'top1'"),
        ({"spaces": ["dart"]}, "C1.spaces.0: 'dart' is not allowed; allowed: nas_bench_201, darts"),
        ({"spaces": ["darts", "s1"]}, "C1.spaces: ['darts', 's1'] is not allowed; one space for metric top1"),
        ({"expected": "high"}, "C1.expected: 'high' is not allowed; input should be a valid number"),
        ({"tolerance": -1}, "C1.tolerance: -1 is not allowed; input should be greater than or equal to 0"),
        ({"seeds": 0}, "C1.seeds: 0 is not allowed"),
        ({"seed": 3}, "C1.seed: unknown key, did you mean seeds? allowed: id, text, metric"),
        ({"id": "claim one"}, "claim one.id: 'claim one' is not allowed"),
        (
            {"transfer_dataset": "imagenet"},
            "C1.transfer_dataset: 'imagenet' is not allowed; only for metric transfer_error",
        ),
        ({"metric": "transfer_error"}, "C1.transfer_dataset: None is not allowed"),
        (
            {"metric": "optimal_cell"},
            "C1.spaces: ['darts'] is not allowed; allowed for metric optimal_cell: nas_bench_201",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_file_claim_key_and_value(change, words, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"sizes": ["demo", "paper"], "claims": [CLAIM | change]}))
    with pytest.raises(ValueError, match=r"claims\.yaml") as error:
        read_claims(path)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(f"{path}: {words}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sizes: [demo\n", "claims.yaml: not YAML: "),
        ("sizes: [demo]\nclaims: []\nsizes: [test]\n", "key 'sizes' is there twice, in lines 1 and 3; each once"),
        ("- C1\n", "is not allowed"),
        ("sizes: [demo]\n", "claims: missing"),
        (yaml.safe_dump({"sizes": ["demo"], "claims": [CLAIM, CLAIM]}), "claims: 'C1' appears twice"),
        (yaml.safe_dump({"sizes": ["demo", "demo"], "claims": [CLAIM]}), "sizes: 'demo' appears twice"),
        (yaml.safe_dump({"sizes": ["demo"], "claims": ["C1"]}), "claims.0: 'C1' is not allowed"),
    ],
)
def test_a_file_that_is_no_list_of_claims_is_refused(text, words, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="claims") as error:
        read_claims(path)
    assert words in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.yaml: can't be read: No such file"):
        read_claims(tmp_path / "none.yaml")


def test_all_mistakes_are_told_at_once(tmp_path):
    path = tmp_path / "claims.yaml"
    second = CLAIM | {"id": "C2", "seeds": 0, "tolerance": "x"}
    path.write_text(yaml.safe_dump({"sizes": ["demo"], "claims": [CLAIM | {"place": -1}, second]}))
    with pytest.raises(ValueError, match=r"C1\.place") as error:
        read_claims(path)
    assert [line.split(": ")[1] for line in str(error.value).splitlines()] == ["C1.place", "C2.tolerance", "C2.seeds"]
