#!/usr/bin/env bash
# The command that uses up a slice of a GPU's time, in an environment as a lent machine has it: torch 2.11 on Python 3.12, and of all
# packages those alone that it says it needs; on a CPU, at tiny size.
#
#   tests/lease/run.sh [PYTHON]
#
# Ends with 0: all parts are done; 1: one isn't; 77: there is no Python 3.12 or no uv. Four minutes on one core, 6 GB.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3.12}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2> /dev/null || { echo "no Python 3.12: $python"; exit 77; }
command -v uv > /dev/null || { echo "no uv"; exit 77; }

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
uv venv --quiet --python "$python" "$home/venv"
uv pip install --quiet --python "$home/venv/bin/python" torch==2.11.0 torchvision==0.26.0 timm scipy pandas scikit-learn matplotlib pydantic
own=$home/venv/bin/python
for absent in snakemake diptest seaborn tabulate; do
    "$own" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$absent') is not None)" || { echo "$absent is there"; exit 1; }
done

"$own" -m benchmarks.lease --device cpu --minutes 10 --out "$home/slice"
"$own" - "$home/slice/report.json" <<'EOF'
import json, sys

page = json.load(open(sys.argv[1]))
assert page["failed"] == [], page["failed"]
assert all(row["passed"] for way in ("eager", "merged") for row in page["right"][way])
assert {row["way"] for row in page["fast"] if row["what"] == "way"} == {"eager", "merged"}
assert not [row for row in page["fast"] if "error" in row]
assert {row["state"] for row in page["searches"]} == {"finished"}
assert page["slices"][0]["versions"]["torch"].startswith("2.11.0"), page["slices"]
print("PASS  all parts are done with torch 2.11 on Python 3.12")
EOF
