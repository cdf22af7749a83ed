#!/usr/bin/env bash
# Pillow 13.0.0 (11.3.0 too): Image.convert("RGB") of a gray PNG of 16 bits cuts values above 255 instead of scaling them, so that a
# ramp from black to white becomes 99.6 % white, without an error. It is what image readers of training code call (timm 1.0.31's
# ImageDataset among them). A colour PNG of 16 bits is scaled. Nor does the mode say how many bits are used: files of 12 bits have the
# same one.
#
# Fails if the gray ramp is scaled, or the coloured one isn't.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
for version in 11.3.0 13.0.0; do
    python3 -m venv "$home/$version"
    "$home/$version/bin/pip" install --quiet "pillow==$version" numpy==2.3.5
    "$home/$version/bin/python" - <<'EOF'
import io
import struct
import zlib

import numpy as np
import PIL
from PIL import Image


def png(values, colour):
    """A PNG of 16 bits of one row."""
    chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    head = struct.pack(">IIBBBBB", 256, 1, 16, 2 if colour else 0, 0, 0, 0)
    row = b"\0" + np.repeat(values, 3 if colour else 1).astype(">u2").tobytes()
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    return Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + body))


ramp = np.arange(256) * 257
white = {kind: float((np.asarray(png(ramp, kind == "colour").convert("RGB"))[..., 0] == 255).mean()) for kind in ("gray", "colour")}
print(f"Pillow {PIL.__version__}: share of white pixels of a ramp of 16 bits by convert: {white}")
assert white["gray"] > 0.99 and white["colour"] < 0.01
EOF
done
