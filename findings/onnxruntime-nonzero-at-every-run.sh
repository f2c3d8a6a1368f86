#!/bin/sh
# onnxruntime 1.32.0: of a graph of constants alone everything is computed while it loads, but for NonZero and what follows.
#
# Guess before the first run: constant folding leaves nothing of a graph in which no node depends on an input; NonZero,
# whose output has a length that depends on values, is no exception, since the values are known.
# Seen 2026-11-30, Linux x86-64, Python 3.11, all optimisations on: Range, CumSum, ScatterElements, Where, BitShift and
# BitwiseXor of uint64 are folded; NonZero stays for every run, and with it all that is made of what it finds. Sorting by
# ScatterElements over CumSum finds the same positions and is folded.
#
#   positions by NonZero: [1, 2, 5]; left for every run: Add, NonZero, Reshape
#   positions by sorting: [1, 2, 5]; left for every run: Add
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
cat > "$folder/fold.py" <<'PYTHON'
import sys
from pathlib import Path

import onnx
import onnx.parser
import onnxruntime

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\ng (int64[1] x) => (int64[N] y)\n'
BITS = "bits = Constant <value = int64[6] {0, 1, 1, 0, 0, 1}> ()"
BY_NONZERO = f"""{HEAD} {{
  {BITS}
  found = NonZero (bits)
  flat = Constant <value = int64[1] {{-1}}> ()
  at = Reshape (found, flat)
  y = Add (at, x)
}}"""
BY_SORTING = f"""{HEAD} {{
  {BITS}
  zero = Constant <value = int64 {{0}}> ()
  one = Constant <value = int64 {{1}}> ()
  first = Constant <value = int64[1] {{0}}> ()
  count = Constant <value = int64[1] {{3}}> ()
  rank = CumSum <exclusive = 1> (bits, zero)
  all = Size (bits)
  index = Range (zero, all, one)
  gap = Sub (index, rank)
  behind = Add (gap, count)
  set = Cast <to = 9> (bits)
  where = Where (set, rank, behind)
  sorted = ScatterElements (index, where, index)
  at = Slice (sorted, first, count)
  y = Add (at, x)
}}"""
folder = Path(sys.argv[1])


def left(name, text):
    """Kinds of the nodes that a run computes, and the answer."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / f"{name}.onnx")
    session = onnxruntime.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options)
    kinds = sorted(node.op_type for node in onnx.load(folder / f"{name}.onnx").graph.node)
    return kinds, session.run(None, {"x": [0]})[0].tolist()


print("onnxruntime", onnxruntime.__version__)
found = [left("nonzero", BY_NONZERO), left("sorting", BY_SORTING)]
for name, (kinds, answer) in zip(("NonZero", "sorting"), found, strict=True):
    print(f"positions by {name}: {answer}; left for every run: {', '.join(kinds)}")
raise SystemExit(found != [(["Add", "NonZero", "Reshape"], [1, 2, 5]), (["Add"], [1, 2, 5])])
PYTHON
"$folder/venv/bin/python" "$folder/fold.py" "$folder"
