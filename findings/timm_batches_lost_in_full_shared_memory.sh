#!/usr/bin/env bash
# torch 2.15.0 with timm 1.0.31: a DataLoader whose workers find no room in /dev/shm (64 MB in a container) waits for ever if its
# collate function makes ordinary tensors, as timm's fast_collate does, which create_loader takes. Such a tensor moves into shared
# memory when the queue's own thread pickles it: the error is printed in the worker, the batch is dropped, the worker lives on, and the
# main process waits for it (unless `timeout` is set). torch's default_collate allocates in shared memory itself, in the worker's main
# thread: the same lack is an error in the main process at once. Needs unshare and mount, for a /dev/shm of 64 KB.
#
# Fails if timm's loader ends by itself, or default_collate's doesn't with an error.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet torch==2.15.0 timm==1.0.31 numpy==2.4.6
cat > "$home/run.py" <<'EOF'
import sys

import timm
import torch
from timm.data.loader import fast_collate
from torch.utils.data import DataLoader, Dataset, default_collate


class Images(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        return torch.zeros(3, 64, 64, dtype=torch.uint8), index


collate = {"fast_collate": fast_collate, "default_collate": default_collate}[sys.argv[1]]
try:
    for _ in DataLoader(Images(), batch_size=32, num_workers=1, collate_fn=collate):
        print("a batch came")
except RuntimeError as error:
    print("RuntimeError:", str(error).splitlines()[-1])
EOF
run() {
    code=0
    said=$(unshare --mount --map-root-user sh -c "mount -t tmpfs -o size=64k none /dev/shm && exec timeout --kill-after=5 30 \
        $home/venv/bin/python $home/run.py $1" 2> "$home/err") || code=$?
    echo "$1: ${said:-nothing} ($([ "$code" -ge 124 ] && echo "still waiting after 30 s" || echo "ended with code $code"))"
    grep -m 1 "unable to allocate shared memory" "$home/err" | sed 's/^/    printed by the worker: /' || true
}
results=$(run default_collate; run fast_collate)
echo "$results"
grep -q "^default_collate: RuntimeError: .*unable to allocate shared memory.*ended with code 0" <<< "$results"
grep -q "^fast_collate: nothing (still waiting" <<< "$results"
