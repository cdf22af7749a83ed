"""Triton's kernels on a CPU, through its interpreter."""

import importlib

import pytest


def interpreted(name):
    """A module whose kernels run on a CPU. Triton's own functions, which another test may have imported to be compiled, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        language = importlib.import_module("triton.language")
        importlib.import_module("triton.experimental.gluon.language")  # is imported late and looks at the variable
        importlib.reload(language.standard)
        importlib.reload(language)
        return importlib.import_module(name)
