#!/bin/sh
# peft 0.21.2: the adapter that trains fewest numbers by its name is one of the largest files.
#
# Guess before the first run: what an adapter writes is what it trains, beside a header, and fixed projections are drawn
# again from a seed; TinyLoRA, whose point is few numbers, is then the smallest file after Uni-LoRA.
# Seen 2026-11-30, Linux x86-64, Python 3.11, timm 1.0.31's vit_tiny_patch16_224, `qkv` of twelve blocks, each as its
# configuration comes but for the targets and the sizes named here. TinyLoRA stores its projections too, 29 numbers for
# each that is trained, and RandLoRA 95.
#
#   LoRA, rank 1          trains  9,216, stores     9,216 numbers,    39,576 B
#   Uni-LoRA, 256         trains    256, stores       256 numbers,     1,152 B
#   FourierFT, 1          trains     12, stores        12 numbers,     1,376 B
#   TinyLoRA              trains    768, stores    22,272 numbers,    94,072 B
#   RandLoRA              trains 16,128, stores 1,533,696 numbers, 6,140,584 B
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 timm==1.0.31 peft==0.21.2
cat > "$folder/see.py" <<'PYTHON'
import tempfile
import warnings
from pathlib import Path

import peft
import timm
from safetensors import safe_open

warnings.simplefilter("ignore")
ONLY = {"target_modules": ["qkv"]}
WAYS = {
    "LoRA, rank 1": (peft.LoraConfig(r=1, **ONLY), 9_216, 9_216),
    "Uni-LoRA, 256": (peft.UniLoraConfig(theta_d_length=256, **ONLY), 256, 256),
    "FourierFT, 1": (peft.FourierFTConfig(n_frequency=1, **ONLY), 12, 12),
    "TinyLoRA": (peft.TinyLoraConfig(**ONLY), 768, 22_272),
    "RandLoRA": (peft.RandLoraConfig(**ONLY), 16_128, 1_533_696),
}
print("peft", peft.__version__)
same = True
for name, (config, trains, stores) in WAYS.items():
    network = peft.get_peft_model(timm.create_model("vit_tiny_patch16_224", num_classes=0), config)
    trained = sum(one.numel() for one in network.parameters() if one.requires_grad)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        path = Path(folder) / "adapter_model.safetensors"
        with safe_open(path, framework="pt") as file:
            stored = sum(file.get_tensor(key).numel() for key in file.keys())
        print(f"{name:14} trains {trained:>6,}, stores {stored:>9,} numbers, {path.stat().st_size:>9,} B")
    same = same and (trained, stored) == (trains, stores)
raise SystemExit(not same)
PYTHON
"$folder/venv/bin/python" "$folder/see.py"
