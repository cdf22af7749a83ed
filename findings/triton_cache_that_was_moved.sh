#!/usr/bin/env bash
# Triton 3.6.0 (torch 2.11.0): the cache of compiled kernels can't be moved. Its folders are named by hashes of source and target, and
# the files beside each other in them, but __grp__*.json holds their absolute paths, and what isn't there is passed over without a word.
# So a cache that is copied into another folder (an image, a node's scratch, an archive) is compiled anew, kernel by kernel, until those
# paths are rewritten. Compiled here for Hopper, which needs no GPU.
#
# Fails if the copied cache is used as it is, or isn't used with the paths rewritten.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet torch==2.11.0 triton==3.6.0 numpy==2.3.5
cat > "$home/run.py" <<'EOF'
import os
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def copied(x, out):
    i = tl.arange(0, 32)
    tl.store(out + i, tl.load(x + i))


def files():
    return {p.name: p.stat().st_mtime_ns for p in Path(os.environ["TRITON_CACHE_DIR"]).rglob("*.cubin")}


before = files()
triton.compile(ASTSource(copied, signature={"x": "*fp32", "out": "*fp32"}, constexprs={}), target=GPUTarget("cuda", 90, 32))
print("taken from the cache" if before == files() else "compiled")
EOF
cd "$home"
compile() { TRITON_CACHE_DIR=$home/$1 venv/bin/python run.py; }
first=$(compile a)
again=$(compile a)
cp -r a b
cp -r a c
rm -r a # while it is there, copies read the kernels of it
moved=$(compile b)
sed -i "s|$home/a/|$home/c/|g" c/*/__grp__*.json
rewritten=$(compile c)
printf 'first: %s\nagain: %s\nmoved: %s\npaths rewritten: %s\n' "$first" "$again" "$moved" "$rewritten"
[ "$first" = compiled ] && [ "$again" = "taken from the cache" ] && [ "$moved" = compiled ] && [ "$rewritten" = "taken from the cache" ]
