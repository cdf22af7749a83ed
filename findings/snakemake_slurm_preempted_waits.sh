#!/usr/bin/env bash
# snakemake-executor-plugin-slurm 2.8.0 (snakemake 9.27.1): a job that Slurm calls PREEMPTED is never submitted again, whatever
# `--retries` says, with and without `--slurm-requeue`: the plugin says once that it leaves the job to Slurm, and asks for its
# state for ever. That is right where Slurm requeues the job; where preemption cancels (PreemptMode=CANCEL), PREEMPTED is a job's
# last state, and Snakemake waits for a job that has ended. A job that is called TIMEOUT is submitted again at once. Slurm is
# played here by commands of its names, which say one state of every job.
#
# Fails if a preempted job is submitted again or given up, or one that ran out of time isn't.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet snakemake==9.27.1 snakemake-executor-plugin-slurm==2.8.0
cd "$home"
mkdir bin
printf '#!/bin/sh\necho submitted >> "%s/calls"; echo $(grep -c submitted "%s/calls")\n' "$home" "$home" > bin/sbatch
printf '#!/bin/sh\necho asked >> "%s/calls"; for i in 1 2 3; do echo "$i|$STATE"; done\n' "$home" > bin/squeue
printf '#!/bin/sh\necho "MinJobAge = 3600 sec"\n' > bin/scontrol
printf '#!/bin/sh\n' > bin/scancel
for name in sacct sacctmgr sshare sinfo; do printf "#!/bin/sh\nexit 1\n" > "bin/$name"; done
chmod +x bin/*
cat > Snakefile <<'EOF'
rule all:
    output: "out"
    resources: slurm_partition="p", runtime=5, mem_mb=100
    shell: "touch {output}"
EOF

run() { # state options...: submissions and whether Snakemake had ended at the limit
    rm -rf calls .snakemake
    export STATE=$1
    code=0
    PATH=$home/bin:$home/venv/bin:$PATH HOME=$home timeout --signal=INT --kill-after=10 "$limit" \
        snakemake --executor slurm --jobs 1 --retries 1 --slurm-status-command squeue \
        --slurm-init-seconds-before-status-checks 1 "${@:2}" > log 2>&1 || code=$?
    ended=yes
    if [ "$code" -ge 124 ]; then ended=no; fi # of timeout
    echo "$STATE ${*:2}: submitted $(grep -c submitted calls) times, asked for $(grep -c asked calls) times, Snakemake ended: $ended"
    grep -q "We leave it to SLURM to resume your job" log && echo "    it said: We leave it to SLURM to resume your job(s)"
    return 0
}

limit=100 # seconds; states are asked for after 1, 12, 33 and 64
results=$(run TIMEOUT; run PREEMPTED; run PREEMPTED --slurm-requeue)
echo "$results"
[ "$(grep -c "submitted 2 times.*ended: yes" <<< "$results")" -eq 1 ]
[ "$(grep -c "PREEMPTED.*submitted 1 times.*ended: no" <<< "$results")" -eq 2 ]
