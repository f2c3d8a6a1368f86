"""What a user of a pretrained network would store for a task instead: bytes on disk, accuracy, seconds, in one run.

    pip install peft
    python tests/benchmarks/beside_adapters.py BANK TASK... --data-dir DIR [--shots N] [--seed S] [--ways PART...]

A float head on the network's features and class means of these; LoRA of rank 4 in every 1 x 1 convolution with a head,
VeRA and Uni-LoRA, from peft; BitFit, biases and a head; all weights fine-tuned, from the network as it is and as the
bank moved it; and this project's tasks of three sizes. All learn from the same images, augmented where the network
itself is trained, and are measured on the test images, with mirror images where the bank asks for these. Bytes are
those of what each writes: a safetensors file of what is its own, or (impress) its row in a pack. Settings are those of
their documentation or usual ones; none is chosen on these tasks.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, UniLoraConfig, VeraConfig, get_peft_model
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from impress_format import open_bank
from impress_format.tasks.short import parse_task
from impress_learn import LoadedBank, load_bank
from impress_learn.features.features import features_of, require_classifier
from impress_learn.jobs import add_tasks
from impress_learn.network.backbone import Backbone
from impress_learn.parts.table import Parts
from impress_learn.streams.images import Images
from impress_learn.streams.load import training_images
from impress_learn.streams.reference import Reference, parse_references
from impress_learn.training.config import TaskTraining

EPOCHS, LEAST_STEPS, BATCH = 10, 200, 32
ROW = 24
"""Bytes of a task in a large pack beside its parts and its text: its digest, and where its text is."""


@dataclass(frozen=True)
class Result:
    bytes: int
    accuracy: float
    seconds: float


def of_features(
    backbone: Backbone, train: Images, test: Images, learn: Callable[[Tensor, Tensor], Mapping[str, Tensor]]
) -> Result:
    """A linear layer on features."""
    started = time.perf_counter()
    layer = learn(features_of(backbone, train), train.labels)
    seconds = time.perf_counter() - started
    logits = features_of(backbone, test) @ layer["weight"].T + layer["bias"]
    share = (logits.argmax(1) == test.labels).float().mean().item()
    return Result(len(save({name: one.contiguous() for name, one in layer.items()})), share, seconds)


def float_head(rows: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
    """Logistic regression, weight decay of scikit-learn's default: sum of losses + |w|^2 / 2, by L-BFGS."""
    layer = nn.Linear(rows.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = cross_entropy(layer(rows), labels, reduction="sum") + 0.5 * layer.weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return {name: one.detach() for name, one in layer.named_parameters()}


def class_means(rows: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
    """The nearest mean, as a linear layer."""
    means = torch.stack([rows[labels == label].mean(0) for label in range(int(labels.max()) + 1)])
    return {"weight": means, "bias": -0.5 * means.square().sum(1)}


def plain_network(backbone: Backbone, classes: int, seed: int) -> nn.Module:
    """The network with a classifier of its own, as timm would give it."""
    module = copy.deepcopy(backbone.module)
    torch.manual_seed(seed)
    module.reset_classifier(classes)  # type: ignore[operator]
    return module.eval()  # BatchNorm keeps its statistics: 250 images give no better ones


def train(network: nn.Module, images: Images, rate: float, seed: int) -> float:
    """Adam on all parameters that ask for gradients; seconds."""
    started = time.perf_counter()
    parameters = [one for one in network.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate)
    batches = -(-len(images) // BATCH)
    epochs = max(EPOCHS, -(-LEAST_STEPS // batches))
    steps = epochs * batches
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for indices in torch.randperm(len(images), generator=generator).split(BATCH):
            batch, labels = images.batch(indices, generator)
            loss = cross_entropy(network(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return time.perf_counter() - started


def measured(network: nn.Module, test: Images, backbone: Backbone) -> float:
    batches = (test.batch(slice(at, at + 250))[0] for at in range(0, len(test), 250))
    with torch.no_grad():
        found = torch.cat([backbone.with_mirror(network, batch).argmax(1) for batch in batches])
    return (found == test.labels).float().mean().item()


def adapted(backbone: Backbone, images: Images, test: Images, config: PeftConfig, *, rate: float, seed: int) -> Result:
    network = get_peft_model(plain_network(backbone, int(images.labels.max()) + 1, seed), config)
    seconds = train(network, images, rate, seed)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        size = (Path(folder) / "adapter_model.safetensors").stat().st_size
    return Result(size, measured(network, test, backbone), seconds)


def bit_fit(backbone: Backbone, images: Images, test: Images, seed: int) -> Result:
    """Biases, of norm layers too, and a head."""
    network = plain_network(backbone, int(images.labels.max()) + 1, seed).requires_grad_(False)
    own = {
        name: one
        for name, one in network.named_parameters()
        if name.endswith(".bias") or name.startswith(require_classifier(backbone))
    }
    for one in own.values():
        one.requires_grad_()
    seconds = train(network, images, 1e-3, seed)
    size = len(save({name: one.detach().contiguous() for name, one in own.items()}))
    return Result(size, measured(network, test, backbone), seconds)


def fine_tuned(backbone: Backbone, images: Images, test: Images, seed: int) -> Result:
    network = plain_network(backbone, int(images.labels.max()) + 1, seed).requires_grad_()
    seconds = train(network, images, 3e-4, seed)
    return Result(len(save(network.state_dict())), measured(network, test, backbone), seconds)


def of_impress(path: Path, reference: str, fit: TaskTraining, data_dir: Path, **parts: Any) -> Result:
    name = "-".join(f"{key}-{value}" for key, value in parts.items()) + "-" + reference.replace("/", "-")
    (added,) = add_tasks(
        path, [reference], fit=fit, name=name, parts=Parts(signature=False, **parts), data_dir=data_dir
    )
    header = parse_task(path, open_bank(path).task_bytes(name))
    stored = sum(part.size for part in header.tensors.values())
    text = len(f'"{reference}",{added.accuracy},{added.train_accuracy},null')
    return Result(ROW + text + stored, added.accuracy, added.seconds)


def ways_of(
    loaded: LoadedBank, path: Path, reference: Reference, fit: TaskTraining, data_dir: Path
) -> Mapping[str, Callable[[], Result]]:
    """What there is to compare, of one task."""
    backbone, head = loaded.answering(None), require_classifier(loaded.backbone)
    convolutions = [
        name
        for name, one in backbone.module.named_modules()
        if isinstance(one, nn.Conv2d) and one.kernel_size == (1, 1)
    ]
    data = loaded.task_data(reference, data_dir=data_dir)
    images, test = training_images(data, fit.shots, fit.seed), data.test
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=convolutions, modules_to_save=[head])
    vera = VeraConfig(r=256, target_modules=[head], save_projection=False)  # drawn from its seed
    uni = UniLoraConfig(r=4, target_modules=[head], theta_d_length=256)
    return {
        "float head": lambda: of_features(backbone, images, test, float_head),
        "class means, float": lambda: of_features(backbone, images, test, class_means),
        "LoRA, rank 4, and head": lambda: adapted(backbone, images, test, lora, rate=1e-3, seed=fit.seed),
        "VeRA of the classifier": lambda: adapted(backbone, images, test, vera, rate=1e-2, seed=fit.seed),
        "Uni-LoRA of the classifier": lambda: adapted(backbone, images, test, uni, rate=1e-2, seed=fit.seed),
        "BitFit and head": lambda: bit_fit(backbone, images, test, fit.seed),
        "fine-tuned": lambda: fine_tuned(backbone, images, test, fit.seed),
        "moved by the bank, float head": lambda: of_features(loaded.adapted, images, test, float_head),
        "moved by the bank, fine-tuned": lambda: fine_tuned(loaded.adapted, images, test, fit.seed),
        "impress: head": lambda: of_impress(path, str(reference), fit, data_dir, head=128),
        "impress: 3,600 bits": lambda: of_impress(path, str(reference), fit, data_dir, head=128, residual=3600),
        "impress: 6,000 bits": lambda: of_impress(path, str(reference), fit, data_dir, head=128, residual=6000),
        "impress: 32,000 bits": lambda: of_impress(path, str(reference), fit, data_dir, head=128, residual=32000),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", type=Path)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--shots", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", default=[""], help="those whose names begin with one of these")
    chosen = parser.parse_args()
    results: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank.impress"
        shutil.copytree(chosen.bank, path)
        loaded = load_bank(open_bank(path), torch.device("cpu"))
        for reference in parse_references(chosen.tasks):
            ways = ways_of(loaded, path, reference, TaskTraining(shots=chosen.shots, seed=chosen.seed), chosen.data_dir)
            for what, way in ways.items():
                if not what.startswith(tuple(chosen.ways)):
                    continue
                results.setdefault(what, []).append(one := way())
                print(
                    f"{reference} {what}: {one.bytes:,} B, {100 * one.accuracy:.1f} %, {one.seconds:.0f} s", flush=True
                )
    print("\n| | bytes | accuracy | seconds |\n|---|---|---|---|")
    for what, each in results.items():
        size, share, seconds = (
            sum(getattr(one, key) for one in each) / len(each) for key in ("bytes", "accuracy", "seconds")
        )
        print(f"| {what} | {size:,.0f} | {100 * share:.1f} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
