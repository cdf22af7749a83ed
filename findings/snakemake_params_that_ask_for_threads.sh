#!/usr/bin/env bash
# snakemake 9.27.1: whether a changed parameter reruns a job depends on the names of its function's arguments. A function of `wildcards`
# alone does; one that also asks for `threads` (or input, output, resources) counts as derived from them and is never compared, even if
# it uses none of them. The call ends with "Nothing to be done", and the output is that of the old value. (Add `threads` to a function
# that makes a job's settings, and edits of the settings no longer run anything again.)
#
# Fails if the second rule is run again.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet snakemake==9.27.1
cd "$home"
cat > Snakefile <<'EOF'
rule all:
    input: "plain.txt", "asking.txt"
rule plain:
    output: "plain.txt"
    params: value=lambda wildcards: config["value"]
    shell: "echo {params.value} > {output}"
rule asking:
    output: "asking.txt"
    params: value=lambda wildcards, threads: config["value"]
    shell: "echo {params.value} > {output}"
EOF
for value in old new; do
    venv/bin/snakemake --cores 1 --quiet all --config value=$value > log 2>&1 || { cat log; exit 1; }
done
plain=$(cat plain.txt) asking=$(cat asking.txt)
echo "snakemake $(venv/bin/snakemake --version), value old, then new: lambda wildcards: $plain; lambda wildcards, threads: $asking"
[ "$plain" = new ] && [ "$asking" = old ]
