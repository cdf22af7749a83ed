"""Steps of the demo as processes of their own, and the files that they write."""

import json
import os
import select
import signal
import subprocess
import sys

from places import ROOT

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
FILES = {
    "search": ("arch.npz", "example.npz", "history.csv"),
    "retrain": ("history.csv", "model.safetensors"),
    "transfer": ("history.csv", "model.safetensors"),
}


def command(name, run, folder, *options):
    return [sys.executable, "-m", f"midas.{name}", run, str(folder), *options]


def finish(name, run, folder, *options):
    subprocess.run(command(name, run, folder, *options), cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    return {file: (folder / file).read_bytes() for file in FILES[name]}


SERVER = """
import json, os, runpy, sys
import timm, midas.search, midas.retrain, midas.transfer

for line in sys.stdin:
    name, *arguments = json.loads(line)
    child = os.fork()
    if not child:
        sys.argv = [name, *arguments]
        runpy.run_module(f"midas.{name}", run_name="__main__", alter_sys=True)
        sys.exit()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """Runs steps as `python -m midas.<step>` does, in processes that need not import anything: a kill hits their work."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, name, run, folder, *options, seconds=None):
        """The exit code of a step; after some seconds it is killed."""
        print(json.dumps([name, run, str(folder), *options]), file=self.process.stdin, flush=True)
        child = int(self.process.stdout.readline())
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline())

    def close(self):
        """End it."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
