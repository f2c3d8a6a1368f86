#!/bin/sh
# torch 2.14.1 with onnx 1.23.2 and onnxscript 0.7.2: attention over windows runs in torch and cannot be exported.
#
# Guess before the first run: what torch's scaled_dot_product_attention takes, its own ONNX exporter takes too, for the
# function is one of those that the exporter knows.
# Seen 2026-11-30, Linux x86-64, Python 3.11: eager mode takes any number of leading axes; the exporter raises an
# AssertionError from deep inside for five, which is what windows beside heads make (NesT and Hiera of timm 1.0.31). The same
# attention written out as two matrix products and a softmax is exported.
#
#   4 axes: eager yes, exported
#   5 axes: eager yes, AssertionError: only 4D query, key, and value are supported
#   5 axes, written out: eager yes, exported
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2
cat > "$folder/export.py" <<'PYTHON'
import logging

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

logging.disable(logging.CRITICAL)


class Fused(nn.Module):
    def forward(self, values):
        return scaled_dot_product_attention(values, values, values)


class WrittenOut(nn.Module):
    def forward(self, values):
        return (values @ values.transpose(-1, -2) * values.shape[-1] ** -0.5).softmax(-1) @ values


def exported(module, values):
    module.eval()(values)
    try:
        torch.onnx.export(module, (values,), dynamo=True, verbose=False)
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "exported"


print("torch", torch.__version__)
four, five = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 4, 5, 8)
found = [exported(Fused(), four), exported(Fused(), five), exported(WrittenOut(), five)]
for what, result in zip(("4 axes", "5 axes", "5 axes, written out"), found, strict=True):
    print(f"{what}: eager yes, {result}")
expected = ["exported", "AssertionError: only 4D query, key, and value are supported", "exported"]
raise SystemExit(found != expected)
PYTHON
"$folder/venv/bin/python" "$folder/export.py"
