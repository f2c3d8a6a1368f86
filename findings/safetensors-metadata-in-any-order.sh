#!/bin/sh
# safetensors 0.8.0: the same tensors with the same metadata are written as other bytes from one run to the next.
#
# Guess before the first run: the header is JSON in the order that it was given in, or sorted; tensors do come out sorted,
# and a file of the same content has one digest.
# Seen 2026-11-30, Linux x86-64, Python 3.11: with one key in `metadata` twelve processes wrote one file, with six keys
# they wrote several, which differ in the order of the keys. Who names files by their digests keeps one key.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cat > "$folder/save.py" <<'PYTHON'
import hashlib
import sys

import numpy
from safetensors.numpy import save

metadata = {f"key{number}": "value" for number in range(int(sys.argv[1]))}
print(hashlib.sha256(save({"b": numpy.zeros(3), "a": numpy.ones(2)}, metadata=metadata)).hexdigest())
PYTHON
"$folder/venv/bin/python" -c 'import safetensors; print("safetensors", safetensors.__version__)'
for keys in 1 6; do
    for run in 1 2 3 4 5 6 7 8 9 10 11 12; do
        "$folder/venv/bin/python" "$folder/save.py" $keys
    done | sort -u > "$folder/digests$keys"
    echo "$keys key(s): $(wc -l < "$folder/digests$keys") different files in 12 runs"
done
test "$(wc -l < "$folder/digests1")" -eq 1
test "$(wc -l < "$folder/digests6")" -gt 1
