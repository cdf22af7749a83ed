import csv
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT, SHARED

from midas.methods.decoding import random_genotype
from midas.spaces import SPACES
from midas.spaces.darts import OPERATIONS
from midas.spaces.genotype import Genotype, load, parse
from midas.spaces.nas_bench_201 import OPERATIONS as NAS_BENCH_201_OPERATIONS

PUBLISHED = SHARED / "data/darts/genotypes.csv"

FIRST = "[('sep_conv_3x3', 1), ('skip_connect', 0), ('max_pool_3x3', 0), ('dil_conv_5x5', 2)]"
SMALL = f"Genotype(normal={FIRST}, normal_concat=[2, 3], reduce={FIRST}, reduce_concat=[2, 3])"


@st.composite
def nas_bench_201_cells(draw):
    operation = st.sampled_from(NAS_BENCH_201_OPERATIONS)
    return "+".join("".join(f"|{draw(operation)}~{source}" for source in range(node)) + "|" for node in (1, 2, 3))


@st.composite
def darts_cells(draw):
    nodes = []
    for target in range(2, 6):
        sources = draw(st.lists(st.integers(0, target - 1), min_size=2, max_size=2, unique=True))
        nodes.append(tuple((draw(st.sampled_from(OPERATIONS)), source) for source in sorted(sources)))
    return tuple(nodes)


@given(nas_bench_201_cells())
def test_nas_bench_201_text_survives_a_round_trip(text):
    assert str(parse(text)) == text


@given(darts_cells(), darts_cells())
def test_darts_genotype_survives_a_round_trip(normal, reduce):
    genotype = Genotype("darts", {"normal": normal, "reduce": reduce})
    assert parse(str(genotype)) == genotype


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"{PUBLISHED} is missing")
def test_every_published_genotype_survives_a_round_trip():
    with PUBLISHED.open(newline="") as file:
        texts = [row["genotype"] for row in csv.DictReader(file)]
    assert len(texts) == 84
    for text in texts:
        genotype = parse(text)
        assert parse(str(genotype)) == genotype
        published = sorted(re.findall(r"\('(\w+)', (\d)\)", text))
        assert (
            sorted((op, str(source)) for kind in genotype.cells for source, _, op in genotype.edges(kind)) == published
        )


@pytest.mark.parametrize("concat", ["[2, 3]", "(2, 3)", "range(2, 4)"])
def test_darts_concat_may_be_written_as_its_code_prints_it(concat):
    assert parse(SMALL.replace("[2, 3]", concat)) == parse(SMALL)


def test_all_operations_of_all_spaces_of_a_form_are_read():
    """Those of S1 to S4 and "none", which eight-operation searches have."""
    for operation in ("none", "noise", *OPERATIONS):
        assert parse(SMALL.replace("skip_connect", operation)).edges("normal")[0] == (0, 2, operation)
    for space in SPACES.values():
        cell = random_genotype(space, seed=0, decode_none=True)
        assert parse(str(cell), *([space.networks] if space.family == "darts" else [])) == cell


def test_edges_of_a_node_are_ordered_by_source():
    assert parse(SMALL).edges("normal") == [
        (0, 2, "skip_connect"),
        (1, 2, "sep_conv_3x3"),
        (0, 3, "max_pool_3x3"),
        (2, 3, "dil_conv_5x5"),
    ]


@pytest.mark.parametrize("text", [SMALL, "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|none~1|avg_pool_3x3~2|"])
def test_genotype_file_survives_a_round_trip(text, tmp_path):
    parse(text).save(tmp_path / "genotype.json")
    assert load(tmp_path / "genotype.json") == parse(text)


CELL = "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|none~1|avg_pool_3x3~2|"


@pytest.mark.parametrize(
    "text",
    [
        re.sub(r"(\d)\)", r"np.int64(\1))", SMALL),  # as NumPy 2 prints its numbers
        re.sub(r"'(\w+)', (\d)", r"np.str_('\1'), numpy.int32(\2)", SMALL),
        SMALL.replace("[2, 3]", "list(range(2, 4))"),
        f"DARTS_V2 = {SMALL}",
        f"DARTS_V2 = {SMALL}  # the second cell".replace(", ", ",  # a comment\n    "),
        f"12/31 11:59:59 PM genotype = {SMALL}",
        f"print({SMALL})",
        re.sub(
            r"(\('\w+', 1\), \('\w+', 0\)), (\('\w+', 0\), \('\w+', 2\))", r"[\1], [\2]", SMALL
        ),  # a list for each node
        re.sub(r"(\('\w+', 1\), \('\w+', 0\)), (\('\w+', 0\), \('\w+', 2\))", r"(\1), (\2)", SMALL),
    ],
)
def test_a_genotype_is_read_as_it_is_pasted(text):
    assert text != SMALL
    assert parse(text) == parse(SMALL)


@pytest.mark.parametrize(
    "text",
    [
        f"[2020-01-01] Structure(4 nodes with {CELL})",
        f"arch = '{CELL}'",
        f"{CELL}\n",
        CELL.replace("|skip_connect~0|nor_conv_1x1~1|", "|nor_conv_1x1~1|skip_connect~0|"),
    ],
)
def test_a_nas_bench_201_cell_is_read_as_it_is_pasted(text):
    assert str(parse(text)) == CELL


def test_the_command_writes_the_file_of_a_published_cell(tmp_path):
    text = "[" + ", ".join(["('sep_conv_3x3', 0), ('skip_connect', 1)"] * 4) + "]"
    whole = f"X = Genotype(normal={text}, normal_concat=range(2, 6), reduce={text}, reduce_concat=range(2, 6))"
    assert command(whole, tmp_path / "genotype.json") == (0, "")
    assert load(tmp_path / "genotype.json") == parse(whole)
    assert command(CELL, tmp_path / "cell.json") == (0, "")
    assert load(tmp_path / "cell.json") == parse(CELL)
    code, error = command(SMALL, tmp_path / "small.json")
    assert (code, error) == (2, "error: normal cell: its nodes have [2, 2] edges; in darts they have [2, 2, 2, 2]\n")
    assert not (tmp_path / "small.json").exists()
    code, error = command(CELL, tmp_path / "no/cell.json")
    assert (code, error) == (2, f"error: {tmp_path}/no/cell.json: No such file or directory\n")


def command(*arguments):
    call = [sys.executable, "-m", "midas.genotype", *map(str, arguments)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stderr


EVIL = "__import__('pathlib').Path('evil').touch()"


@pytest.mark.parametrize(
    "text",
    [
        EVIL,
        f"Genotype(normal={EVIL}, normal_concat=[], reduce=[], reduce_concat=[])",
        f"Genotype(normal=[], normal_concat=range({EVIL}), reduce=[], reduce_concat=[])",
        f"Genotype(normal=[(({EVIL}), 0)], normal_concat=[2], reduce=[], reduce_concat=[])",
        f"|{EVIL}~0|",
    ],
)
def test_expressions_are_refused_and_not_evaluated(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="not a"):
        parse(text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a DARTS genotype"),
        ("Genotype(", "not a DARTS genotype"),
        (SMALL.replace("Genotype", "Phenotype"), "no Genotype"),
        (SMALL.replace("reduce=", "reduction="), "not a DARTS genotype"),
        (SMALL.replace("normal_concat=[2, 3]", "normal_concat=[3]"), "must name all 2 intermediate nodes"),
        (
            SMALL.replace("'dil_conv_5x5', 2", "'dil_conv_5x5', 3"),
            "node 3 of the normal cell can't take dil_conv_5x5 from node 3",
        ),
        (SMALL.replace("'skip_connect', 0", "'skip_connect', -1"), "from node -1"),
        ("|none~0|+|none~0|none~2|", "node 2 of the cell cell can't take none from node 2"),
        ("|none~0|+|none|", "not a NAS-Bench-201 cell"),
        ("|none~0", "not a NAS-Bench-201 cell"),
        (
            SMALL.replace("'skip_connect', 0", "'skip_connect', 0.9"),
            "('skip_connect', 0.9) is not allowed; an operation",
        ),
        (SMALL.replace("'skip_connect', 0", "'skip_connect', False"), "('skip_connect', False) is not allowed"),
        (SMALL.replace("'skip_connect', 0", "'skip_connect', np.float64(0)"), "float64(...) is not read"),
        (SMALL.replace("'skip_connect', 0", "3, 0"), "(3, 0) is not allowed; an operation and the number of a node"),
        (
            SMALL.replace("skip_connect", "nor_conv_1x1"),
            "operation 'nor_conv_1x1' is not allowed; in darts: max_pool_3x3, ",
        ),
        (
            SMALL.replace("skip_connect", "sep_conv_7x7"),
            "operation 'sep_conv_7x7' is not allowed; in darts: max_pool_3x3, ",
        ),
        (
            SMALL.replace("[('sep", "[[('sep").replace("('max", "[('max").replace("1), (", "1)], ("),
            "not a DARTS genotype",
        ),
        (f"{SMALL}, {SMALL}", "holds 2; one is wanted"),
        (f"{SMALL} {CELL}", "holds 2; one is wanted"),
        (f"A = {SMALL[:-1]}", 'not a DARTS genotype: "Genotype(normal='),
        (CELL.replace("none~1", "none~0"), "node 3 takes nodes [0, 0, 2]; it must take each node before it once"),
        (CELL.replace("|none~1", ""), "node 3 takes nodes [0, 2]; it must take each node before it once"),
        (
            CELL.replace("nor_conv_1x1", "sep_conv_3x3"),
            "'sep_conv_3x3' is not allowed; in nas_bench_201: none, skip_connect",
        ),
        (f"cell: {CELL}|none~3|", "not a DARTS genotype"),
        ("Genotype(normal=range(10**30), normal_concat=[])", "not a DARTS genotype"),
    ],
)
def test_wrong_text_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"space": "darts", "cells": {"cell": []}}',
        '{"space": "nasbench101", "cells": {"cell": []}}',
        '{"space": "nas_bench_201", "cells": {"cell": [[["none", 1]]]}}',
        '{"space": "nas_bench_201", "cells": {"cell": [["none"]]}}',
        '{"space": "nas_bench_201", "cells": {"cell": [[["none", 0.0]]]}}',
        '{"space": "nas_bench_201", "cells": {"cell": [[["none", false]]]}}',
        '{"space": "nas_bench_201", "cells": {"cell": [[["max_pool_3x3", 0]]]}}',
        '{"space": ["nas_bench_201"], "cells": {"cell": [[["none", 0]]]}}',
    ],
)
def test_wrong_file_is_refused_by_name(content, tmp_path):
    path = tmp_path / "genotype.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"genotype\.json"):
        load(path)


def test_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"genotype\.json"):
        load(tmp_path / "genotype.json")


def test_a_darts_node_may_take_one_node_twice():
    """As some nodes of NASNet's published cell do."""
    cell = "[('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('skip_connect', 0), ('skip_connect', 1)]"
    text = f"Genotype(normal={cell}, normal_concat=[2, 3], reduce={cell}, reduce_concat=[2, 3])"
    assert parse(text).edges("normal")[:2] == [(0, 2, "sep_conv_3x3"), (0, 2, "sep_conv_5x5")]
