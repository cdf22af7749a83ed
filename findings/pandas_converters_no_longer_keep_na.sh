#!/usr/bin/env bash
# pandas: a class may be called "null" or "NA", and converters={"class": str} was the way to read such a column as text: in 2.3.3 it
# gives 'NA', 'null', '00001'. In 3.1.1 the same call gives nan, nan, '00001': missing values are looked for in what the converter
# returns, so only a converter that changes the text keeps it. Groups of such classes then vanish from a pivot or a groupby.
# keep_default_na=False with dtype=str works in both.
#
# Fails if either version reads otherwise.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
for version in 2.3.3 3.1.1; do
    python3 -m venv "$home/$version"
    "$home/$version/bin/pip" install --quiet "pandas==$version"
    "$home/$version/bin/python" - <<'EOF'
import io

import pandas as pd

text = "class,images\nNA,1\nnull,2\n00001,3\n"
converted = pd.read_csv(io.StringIO(text), converters={"class": str})["class"].tolist()
kept = pd.read_csv(io.StringIO(text), dtype={"class": str}, keep_default_na=False)["class"].tolist()
print(f"pandas {pd.__version__}: by a converter {converted}, by keep_default_na=False {kept}")
assert kept == ["NA", "null", "00001"]
assert (converted == kept) == pd.__version__.startswith("2.")
EOF
done
