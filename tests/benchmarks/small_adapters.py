"""Bytes and accuracy of peft's small adapters, on the tasks that task files of impress are measured on.

    pip install -e .[bench]
    python tests/benchmarks/small_adapters.py DATA_DIR rotated-mnist/13 rotated-mnist/141 permuted-mnist/1001

They stand on a LeNet-300-100 that was trained on upright MNIST, all weights, as who uses adapters has one. Each learns
for three epochs of Adam; its rate is the best of four on a held-out sixth of the training images after one epoch.
Bytes are those of `adapter_model.safetensors` alone. Accuracy is on test images.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import FourierFTConfig, LoraConfig, UniLoraConfig, VeraConfig, get_peft_model
from torch import nn
from torch.nn.functional import cross_entropy

from impress_learn.network.lenet import LeNet300100
from impress_learn.streams.images import Images
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference

BASE = "rotated-mnist/0"
LAYERS = ["fc1", "fc2", "fc3"]
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
EPOCHS, BATCH, HOLDOUT = 3, 128, 1 / 6
WAYS: dict[str, Any] = {
    **{
        f"Uni-LoRA, {n:,} values": UniLoraConfig(theta_d_length=n, target_modules=LAYERS) for n in (64, 256, 1024, 4096)
    },
    **{f"FourierFT, {n:,} a layer": FourierFTConfig(n_frequency=n, target_modules=LAYERS) for n in (20, 100, 1000)},
    **{f"VeRA, rank {r}": VeraConfig(r=r, target_modules=["fc2", "fc3"]) for r in (64,)},
    **{f"LoRA, rank {r}": LoraConfig(r=r, target_modules=LAYERS) for r in (1, 4)},
}


def train(network: nn.Module, images: Images, rate: float, epochs: int) -> nn.Module:
    """Adam on what asks for gradients."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam([one for one in network.parameters() if one.requires_grad], lr=rate)
    steps = epochs * len(images) // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        inputs, labels = images.batch(torch.randint(len(images), (BATCH,)))
        optimizer.zero_grad()
        cross_entropy(network(inputs), labels).backward()
        optimizer.step()
        schedule.step()
    return network


def accuracy(network: nn.Module, images: Images) -> float:
    inputs, labels = images.batch(slice(None))
    with torch.no_grad():
        return float((network(inputs).argmax(1) == labels).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("references", nargs="+")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    upright = load_task(parse_reference(BASE), data_dir=asked.data_dir)
    base = train(LeNet300100(784, 10), upright.train, 1e-3, EPOCHS)
    print(f"{BASE}: {accuracy(base, upright.test):.4f}", flush=True)

    def adapter(config: Any) -> Any:
        return get_peft_model(copy.deepcopy(base), config)

    for text in asked.references:
        held, whole = (
            load_task(parse_reference(text), data_dir=asked.data_dir, holdout=share) for share in (HOLDOUT, 0.0)
        )
        print(f"{text}: base as it is {accuracy(base, whole.test):.4f}", flush=True)
        for name, config in WAYS.items():
            tried = {r: accuracy(train(adapter(config), held.train, r, 1), held.validation) for r in RATES}
            rate = max(tried, key=lambda one: tried[one])
            learned = train(adapter(config), whole.train, rate, EPOCHS)
            with tempfile.TemporaryDirectory() as folder:
                learned.save_pretrained(folder)  # type: ignore[operator]
                size = (Path(folder) / "adapter_model.safetensors").stat().st_size
            print(f"{text}\t{name}\t{size:,} B\t{accuracy(learned, whole.test):.4f}\trate {rate:g}", flush=True)
        tuned = train(copy.deepcopy(base), whole.train, 1e-3, EPOCHS)
        print(f"{text}\tall weights\t{4 * 266_200:,} B\t{accuracy(tuned, whole.test):.4f}", flush=True)


if __name__ == "__main__":
    main()
