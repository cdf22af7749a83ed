#!/usr/bin/env bash
# Says of a Slurm job by its number: running, success or failed. Slurm forgets a job some minutes after its end; its accounting,
# where a site has one, doesn't. A job that is known to neither counts as failed: started again, it continues.
set -uo pipefail

answer=$(scontrol --oneliner show job "$1" 2>&1)
case $answer in
    *JobState=*) state=$(grep -oP '(?<=JobState=)\w+' <<< "$answer" | head -n 1) ;;
    *"Invalid job id"*) state=$(sacct --allocations --noheader --parsable2 --format=State --jobs="$1" 2> /dev/null | head -n 1) ;;
    *) state=UNANSWERED ;; # a busy controller: started again now, the job would run twice
esac

case $state in
    COMPLETED) echo success ;;
    PENDING | CONFIGURING | RUNNING | COMPLETING | SUSPENDED | STOPPED | REQUEUED | REQUEUE_HOLD | RESIZING | SIGNALING | STAGE_OUT | UNANSWERED)
        echo running
        ;;
    *) echo failed ;;
esac
