#!/usr/bin/env bash
# A Slurm of one node on this machine, in a temporary folder and only for as long as tests/slurm/check.py takes: that runs the
# workflow through workflow/profiles/slurm and says what held. Needs the packages of Slurm and munge (Debian: slurm-wlm, munge)
# and no right of root; installs nothing, touches no Slurm that is there already. About 14 minutes.
# Ends with 0: all claims hold, 1: one doesn't, 77: Slurm isn't installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin

for program in munged slurmctld slurmd sbatch; do
    if ! command -v "$program" > /dev/null; then
        echo "SKIPPED: $program isn't installed (Debian: apt-get install --no-install-recommends slurm-wlm munge)"
        exit 77
    fi
done

state=$(mktemp -d)
chmod 755 "$state" # munge refuses a socket that others can't reach
export SLURM_CONF=$state/slurm.conf # no command below ever speaks to another Slurm
started=()

start() { # name command...
    "${@:2}" > "$state/$1.log" 2>&1 &
    started=($! "${started[@]}")
}

stop() {
    code=$?
    trap - EXIT
    timeout 5 scancel --user="$(id -un)" 2> /dev/null || true # jobs that a failed check left behind
    sleep 2
    for process in "${started[@]}"; do # the last first
        kill "$process" 2> /dev/null || true
        wait "$process" 2> /dev/null || true
    done
    if [ "$code" -eq 0 ]; then rm -rf "$state"; else echo "logs are kept in $state"; fi
    exit "$code"
}
trap stop EXIT
trap 'exit 1' INT TERM

until_true() { # command...
    for _ in $(seq 60); do
        if "$@" > /dev/null 2>&1; then return; fi
        sleep 0.5
    done
    echo "FAIL: no answer in 30 s: $*"
    tail -n 5 "$state"/*.log
    exit 1
}

free_port() {
    python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

mkdir "$state/controller" "$state/node"
head -c 1024 /dev/urandom > "$state/munge.key"
chmod 600 "$state/munge.key"
# More memory than there may be, so that what the rules ask for fits; and a GPU that is none, so that asking for one can be shown.
cat > "$state/slurm.conf" << END
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$state/munge.socket
CredType=cred/munge
StateSaveLocation=$state/controller
SlurmdSpoolDir=$state/node
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
AccountingStorageType=accounting_storage/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
EnforcePartLimits=ALL
MinJobAge=3600
KillWait=20
GresTypes=gpu
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=5,bf_interval=5
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=64000 Gres=gpu:1
PartitionName=test Nodes=ALL Default=YES MaxTime=7-0 State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=7-0 State=UP PriorityTier=2 PreemptMode=OFF
END
echo "Name=gpu File=/dev/null" > "$state/gres.conf"
# No control groups: a container has none to give. Slurm can be told so since 23.02.
case $(slurmd -V) in
    *" 22."*) echo "CgroupPlugin=cgroup/v1" > "$state/cgroup.conf" ;;
    *) echo "CgroupPlugin=disabled" > "$state/cgroup.conf" ;;
esac
# The plugin starts `srun` within a job without any variable SLURM_*, so also without the one that says where Slurm is.
mkdir "$state/bin"
printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$state/bin/srun"
chmod +x "$state/bin/srun"
export PATH=$state/bin:$PATH

start munged munged --foreground --socket="$state/munge.socket" --key-file="$state/munge.key" \
    --pid-file="$state/munged.pid" --seed-file="$state/munge.seed"
until_true munge --no-input --socket="$state/munge.socket"
start slurmctld slurmctld -D -c
until_true scontrol ping
start slurmd slurmd -D
until_true bash -c 'sinfo --noheader --format=%T | grep -q idle'
sinfo

python tests/slurm/check.py "$state" &
started=($! "${started[@]}")
wait $! # unlike a command in the foreground, it lets a signal through
