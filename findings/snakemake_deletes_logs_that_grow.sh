#!/usr/bin/env bash
# Snakemake 9.27.1: `>> {log}` appends to nothing. The documentation says of log files that they are not deleted upon error, unlike
# outputs, and so they are kept when a job fails; but when the job is started again, by a retry of the same call too, its log is
# deleted first. What earlier attempts of a long job printed is lost, unless it is kept under another name, e.g. by a hard link.
#
# Fails if the log of a job that succeeds at its second attempt has both attempts.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet snakemake==9.27.1
mkdir "$home/work"
cd "$home/work"
cat > Snakefile <<'EOS'
rule long:
    output:
        "result",
    log:
        "long.log",
    resources:
        attempt=lambda wildcards, attempt: attempt,
    shell:
        "echo attempt {resources.attempt} >> {log}; echo attempt {resources.attempt} >> beside.log; "
        "[ {resources.attempt} = 2 ] && touch {output}"
EOS
export HOME="$home"
"$home/venv/bin/snakemake" --cores 1 --retries 1 > printed 2>&1
echo "Snakemake $("$home/venv/bin/snakemake" --version); a file that is no log has: $(paste -sd, beside.log); the log has: $(paste -sd, long.log)"
[ "$(cat beside.log)" = $'attempt 1\nattempt 2' ]
[ "$(cat long.log)" = "attempt 2" ]
