"""A user whose number has no name and no home, as a container may have: nothing fails, nothing is written where it shouldn't."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from places import ROOT


@pytest.fixture
def nameless(tmp_path):
    """Runs a command as such a user, with a folder for temporary files."""
    enter = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
    if not shutil.which("unshare") or subprocess.run([*enter, "true"], capture_output=True).returncode:
        pytest.skip("another user needs unshare")

    def run(*words, **environment):
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1", **environment}
        return subprocess.run([*enter, *words], cwd=ROOT, capture_output=True, text=True, env=environment)

    return run


@pytest.mark.parametrize("home", [{}, {"HOME": "/proc"}], ids=["none", "read-only"])
def test_a_user_without_name_and_home_keeps_what_is_compiled_in_the_folder_for_temporary_files(
    home, nameless, tmp_path
):
    code = "from midas.supernet.compiler import cache_folder; print(cache_folder())"
    done = nameless(sys.executable, "-c", code, **home)
    assert (done.stdout, done.stderr) == (f"{tmp_path}/midas-54321\n", "")
    assert (tmp_path / "midas-54321").stat().st_mode & 0o777 == 0o700


def test_a_user_without_name_and_home_searches(nameless, search_run, tmp_path):
    done = nameless(
        sys.executable, "-m", "midas.search", search_run(epochs=1).model_dump_json(), str(tmp_path / "search")
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "search/metrics.json").read_text())["cost"]["compiled_kernels"]
    assert list(tmp_path.glob("midas-54321/kernels-*.so"))
    assert not (ROOT / "~").exists()


def test_triton_keeps_kernels_of_a_user_without_home_where_others_are(nameless, tmp_path):
    pytest.importorskip("triton")
    code = "import midas.supernet.gpu, triton; print(triton.knobs.cache.dir)"
    assert nameless(sys.executable, "-c", code).stdout == f"{tmp_path}/midas-54321/triton\n"
    own = nameless(sys.executable, "-c", code, TRITON_CACHE_DIR="/elsewhere")
    assert own.stdout == "/elsewhere\n"


def test_make_gives_snakemake_a_name_and_a_home(nameless, tmp_path):
    rule = "\nsay:\n\t@$(RUN) python -c 'import getpass; print(getpass.getuser())'; echo $$HOME\n"
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text() + rule)
    assert nameless("make", "-C", str(tmp_path), "--silent", "say").stdout == f"54321\n{tmp_path}/.snakemake/home\n"
    own = nameless("make", "-C", str(tmp_path), "--silent", "say", HOME=str(tmp_path), LOGNAME="me")
    assert own.stdout == f"me\n{tmp_path}\n"
