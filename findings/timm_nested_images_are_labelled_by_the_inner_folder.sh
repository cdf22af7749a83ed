#!/usr/bin/env bash
# timm 1.0.31: its image folder reader walks into folders within a class and gives their images the inner folder's name as label. With
# torchvision's layout, train/cat/a.png and train/cat/close/b.png are two cats to torchvision 0.29.2 (ImageFolder), but a "cat" and a
# "close" to timm: another number of classes, and other numbers of the classes behind. With a class_map of the real classes the nested
# image is dropped, without a word. Two readers of one folder then train on other sets.
#
# Fails if timm labels the nested image as torchvision does.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet timm==1.0.31 torch==2.15.0 torchvision==0.29.2 pillow==13.0.0
cd "$home"
venv/bin/python - <<'EOF'
from pathlib import Path

import timm
from PIL import Image
from timm.data import ImageDataset
from torchvision.datasets import ImageFolder

for name in ("cat/a", "cat/close/b", "dog/c"):
    path = Path("train", name + ".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)
theirs = ImageFolder("train")
whole, mapped = ImageDataset("train"), ImageDataset("train", class_map={"cat": 0, "dog": 1})
print(f"torchvision: {theirs.class_to_idx}, {len(theirs)} images")
print(f"timm {timm.__version__}: {whole.reader.class_to_idx}, {len(whole)} images; with a class_map {len(mapped)} images")
assert theirs.class_to_idx == {"cat": 0, "dog": 1} and len(theirs) == 3
assert whole.reader.class_to_idx == {"cat": 0, "close": 1, "dog": 2} and len(whole) == 3 and len(mapped) == 2
EOF
