"""The example of docs/extending.md runs, and finds what it says."""

import contextlib
import io
import re
import runpy

from places import ROOT


def test_the_example_finds_the_sine(tmp_path):
    text = (ROOT / "docs/extending.md").read_text()
    (example,) = re.findall(r"^`own_function.py`:\n\n```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "own_function.py").write_text(example)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(tmp_path / "own_function.py"))
    assert printed.getvalue() == "y = sin(x) y = \\sin\\left(x\\right)\n" * 2
