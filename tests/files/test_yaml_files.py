import re

import pytest
import yaml

from midas.config.reading import read_config


def test_a_key_that_is_there_twice_is_refused_with_its_lines(tmp_path):
    path = tmp_path / "c.yaml"
    for text, words in {
        "a: 1\nb: 2\na: 3\n": "key 'a' is there twice, in lines 1 and 3; each once",
        "x:\n  - {lr: 1, 'lr': 2}\n": "key 'lr' is there twice, in lines 2 and 2; each once",
        "x: &x {a: 1}\ny:\n  <<: *x\n  b: 1\n  b: 2\n": "key 'b' is there twice, in lines 4 and 5; each once",
        '{\n\t"a": {"b": 1, "b": 2}}': "key 'b' is there twice; each once",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=re.escape(f"{path}: {words}")):
            read_config(path, [])
    for text in ("x: &x {a: 1}\ny: {<<: *x, a: 2}\nz: {a: 3, 1: 4, '1': 5}\n", '{\n\t"x": {"a": 1}}'):
        path.write_text(text)
        assert read_config(path, ["b={a: 1}"]) == yaml.safe_load(text.replace("\t", "")) | {"b": {"a": 1}}
    for changes in (["b=1", "c=2", "b=3"], ["b={a: 1, a: 2}"]):
        with pytest.raises(ValueError, match=r"each key once|is there twice"):
            read_config(path, changes)
