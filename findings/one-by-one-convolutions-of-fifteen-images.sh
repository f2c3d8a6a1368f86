#!/bin/sh
# torch on a CPU: how a 1 x 1 convolution is computed depends on how many images and how many threads there are.
#
# Guess before the first run: oneDNN computes every float32 convolution of an x86-64 CPU, and that batches of 12 took longer
# an image than those of 16, with other last bits, was its choice of kernels.
# Seen 2026-11-30, torch 2.14.1, Linux x86-64, Python 3.11: on one thread a 1 x 1 convolution of stride 1 of 15 images goes to aten::_slow_conv2d_forward, of 16
# images to aten::mkldnn_convolution; on two threads both go to oneDNN. A 3 x 3 convolution of 15 images goes there on
# one thread too. A network of 1 x 1 convolutions (EfficientNet-Lite0, 128 px) took 3.7 ms an image in batches of 12 and
# 2.2 in batches of 16.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1
cat > "$folder/see.py" <<'PYTHON'
import sys

import torch
from torch.profiler import ProfilerActivity, profile


def way(images, threads, side):
    torch.set_num_threads(threads)
    layer = torch.nn.Conv2d(32, 96, side, padding=side // 2, bias=False)
    values = torch.randn(images, 32, 40, 40)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as seen:
        layer(values)
    names = {one.key for one in seen.key_averages()}
    return "oneDNN" if "aten::mkldnn_convolution" in names else "slow" if "aten::_slow_conv2d_forward" in names else "other"


found = {(images, threads, side): way(images, threads, side) for images in (15, 16) for threads in (1, 2) for side in (1, 3)}
print("torch", torch.__version__)
for (images, threads, side), name in found.items():
    print(f"{images} images, {threads} thread(s), {side} x {side}: {name}")
expected = {key: "slow" if key == (15, 1, 1) else "oneDNN" for key in found}
sys.exit(found != expected)
PYTHON
"$folder/venv/bin/python" "$folder/see.py"
