#!/bin/sh
# torch 2.14.1's ONNX exporter: a constant called conv.weight is not that weight, and a Linear's has no name of its own.
#
# Guess before the first run: parameters become constants of the graph under their own names, with their own values;
# a norm behind a convolution is an operation of its own, or folded into a constant of another name.
# Seen 2026-11-30, Linux x86-64, Python 3.11, onnx 1.23.2 with onnxscript 0.7.2: weights of a convolution before a
# BatchNorm are multiplied by it and keep their name; those of a Linear over three axes are turned and called val_N, over
# two axes they are as they were. Who changes weights in an exported graph by name changes wrong numbers, and hears nothing.
#
#   convolution alone                  0.weight, equal
#   convolution and BatchNorm          0.weight, other values
#   Linear over two axes               0.weight, equal
#   Linear over three axes             no 0.weight, its transpose under another name
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2
cat > "$folder/names.py" <<'PYTHON'
import logging

import numpy as np
import torch
from onnx import numpy_helper
from torch import nn

logging.disable(logging.CRITICAL)


def exported(module, shape):
    """What became of `0.weight`."""
    torch.manual_seed(0)
    for one in module.modules():
        if isinstance(one, nn.BatchNorm2d):
            nn.init.uniform_(one.running_var, 0.5, 2.0)
    graph = torch.onnx.export(module.eval(), (torch.randn(shape),), dynamo=True, verbose=False).model_proto.graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    weight = module[0].weight.detach().numpy()
    if "0.weight" in constants:
        return "0.weight, equal" if np.array_equal(constants["0.weight"], weight) else "0.weight, other values"
    turned = [name for name, one in constants.items() if np.array_equal(one, weight.T)]
    return "no 0.weight, its transpose under another name" if turned else "no 0.weight"


print("torch", torch.__version__)
ways = {
    "convolution alone": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (2, 3, 8, 8)),
    "convolution and BatchNorm": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (2, 3, 8, 8)),
    "Linear over two axes": (nn.Sequential(nn.Linear(5, 7), nn.ReLU()), (2, 5)),
    "Linear over three axes": (nn.Sequential(nn.Linear(5, 7), nn.ReLU()), (2, 3, 5)),
}
found = [exported(*way) for way in ways.values()]
for name, result in zip(ways, found, strict=True):
    print(f"{name:34} {result}")
expected = [
    "0.weight, equal",
    "0.weight, other values",
    "0.weight, equal",
    "no 0.weight, its transpose under another name",
]
raise SystemExit(found != expected)
PYTHON
"$folder/venv/bin/python" "$folder/names.py"
