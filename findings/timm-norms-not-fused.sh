#!/bin/sh
# torch 2.14.1 with timm 1.0.31: torch's own pass that fuses BatchNorm into convolutions fuses none of most timm networks.
#
# Guess before the first run: torch.fx.experimental.optimization.fuse fuses all norm layers that stand behind a
# convolution, as it does for ResNet-18, and says so where it cannot.
# Seen 2026-11-30, Linux x86-64, Python 3.11: timm's BatchNormAct2d is a class of its own, which fx traces through, so that
# the pass meets no norm layer. It raises nothing, warns of nothing, and gives back a network that is as slow as before;
# the logits are the same bits, which is all that one is likely to check.
#
#   resnet18            20 norm layers, 0 left
#   efficientnet_lite0  49 norm layers, 49 left
#   regnety_002         44 norm layers, 44 left
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 timm==1.0.31
cat > "$folder/fuse.py" <<'PYTHON'
import warnings

import timm
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

warnings.simplefilter("error")
print("torch", torch.__version__, "timm", timm.__version__)
for name, expected in (("resnet18", 0), ("efficientnet_lite0", 49), ("regnety_002", 44)):
    network = timm.create_model(name, pretrained=False).eval()
    fused = fuse(network)
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    left = sum(
        "batch_norm" in str(node.target)
        or (node.op == "call_module" and isinstance(fused.get_submodule(node.target), nn.BatchNorm2d))
        for node in fused.graph.nodes
    )
    print(f"{name:19} {norms} norm layers, {left} left")
    if left != expected:
        raise SystemExit(1)
PYTHON
"$folder/venv/bin/python" "$folder/fuse.py"
