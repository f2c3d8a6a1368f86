"""How the golden banks of 0.1.0 were made, in folders that are not there yet: `python tests/golden/make.py FOLDER`.

They hold every part of a task, every file of a bank and every field of their records, loose and packed. What is in
`tests/golden` stays for ever: a format that changes gets a folder beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from impress_format import open_bank
from impress_format.bank import Bank
from impress_format.operations.create import write_plan
from impress_format.operations.packets import packets_of_task
from impress_format.records.manifest import BankManifest, MadeWith, Preprocess
from impress_format.records.masks import MaskPlan
from impress_format.records.network import BackboneSpec, LayerSpec, PretrainedRecord
from impress_format.records.training import Elsewhere
from impress_format.tasks.file import take_apart
from impress_format.tasks.record import TaskRecord
from impress_format.weights import backbone_digest

NETWORK = "test_efficientnet"
"""Smallest network of timm whose last layers a residual and norms can be of."""
PACKETS = (
    ("lenet", "rotated-digits-20"),
    ("lenet", "rotated-digits-30"),
    ("lenet", "rotated-digits-60"),
    ("lenet", "rotated-digits-80"),
    ("lenet", "shapes"),
    ("resnet", "norm-4"),
    ("photos", "residual"),
    ("photos", "many"),
)
"""Bank and task of the golden packets: every part in one of them."""

ANSWERING = ("lenet", "resnet", "photos")

ELSEWHERE = Elsewhere(
    impress="0.1.0", torch="2.11.0", timm="1.0.31", numpy="2.4.0", pillow="12.0.0", cpu="AuthenticAMD AVX2", gpu=""
)


def main(folder: Path) -> None:
    makers = {"lenet": make_lenet, "resnet": make_resnet, "photos": make_photos, "axes": make_axes, "hub": make_hub}
    for name, make in makers.items():
        bank = folder / f"{name}.impress"
        if bank.exists():
            raise SystemExit(f"{bank} is there: golden banks are never made anew")
        with tempfile.TemporaryDirectory() as work:
            make(bank, Path(work))
        remove_locks(bank)
        write_json(folder / f"{name}.json", contents_of(bank))
    packets = {name: packets_of(open_bank(folder / f"{bank}.impress"), name) for bank, name in PACKETS}
    write_json(folder / "packets.json", packets)
    with tempfile.TemporaryDirectory() as work:
        add_weights(Path(work))
        os.environ["IMPRESS_WEIGHTS"] = str(Path(work) / "kept")
        write_json(folder / "logits.json", {bank: logits_of(folder / f"{bank}.impress") for bank in ANSWERING})


def impress(work: Path, *arguments: object) -> None:
    environment = {**os.environ, "IMPRESS_WEIGHTS": str(work / "kept"), "IMPRESS_CACHE": str(work / "cache")}
    command = [sys.executable, "-m", "impress_cli", *map(str, arguments)]
    subprocess.run(command, cwd=work, env=environment, check=True)


def make_lenet(bank: Path, work: Path) -> None:
    """Masks, alpha in three types, votes, residuals of every width, marks of removal, a packet that came."""
    held_out = ("--holdout", "0.1")
    impress(work, "bank", "create", bank, "rotated-digits/0:180:90", "--density", "0.05", "--random-masks", "1",
            "--allocation", "erdos-renyi", "--epochs", "2", "--optimizer", "rmsprop", "--lr", "0.002",
            "--weight-decay", "0.0001", "--warmup", "1", "--threads", "2", "--reproducible", *held_out)  # fmt: skip
    impress(work, "bank", "extend", bank, "rotated-digits/180", "--mask-type", "signed", "--epochs", "1", *held_out)
    impress(work, "bank", "extend", bank, "rotated-digits/270", "--mask-type", "real", "--epochs", "1", *held_out)
    few = ("--epochs", "2", *held_out)
    for reference, *options in (
        ("rotated-digits/20", "--alpha-dtype", "float16", "--optimizer", "rmsprop", "--weight-decay", "0.001",
         "--warmup", "1", "--l1", "0.005", "--threads", "2", "--batch-size", "64", "--seed", "7"),
        ("rotated-digits/25", "--alpha-dtype", "float32", "--no-signature"),
        ("rotated-digits/30", "--residual", "640", "--residual-bits", "2", "--no-alpha"),
        ("rotated-digits/40", "--residual", "640", "--granularity", "2"),
        ("rotated-digits/50", "--residual", "640", "--residual-bits", "4"),
        ("rotated-digits/60", "--residual", "640", "--residual-bits", "8", "--hybrid"),
        ("rotated-digits/70", "--name", "seventy", "--hybrid"),
        ("rotated-digits/75", "--warm-start", "rotated-digits-50"),
        ("rotated-digits/80", "--shots", "5", "--vote"),
        ("rotated-digits/120:150:20",),
    ):  # fmt: skip
        impress(work, "task", "add", bank, reference, *options, *few)
    impress(work, "task", "add", bank, "rotated-digits/100", "--unlabelled", *held_out)
    save_images(work / "shapes", ("bar", "cross", "ring"), 28, "L", 8)
    impress(work, "task", "add", bank, "folder:shapes", "--name", "shapes", *few)
    impress(work, "task", "export", bank, "rotated-digits-40", work / "forty.packet", "--packet", "2000")
    impress(work, "task", "import", bank, work / "forty.packet", "--name", "came", "--class-names",
            ",".join(map(str, range(10))))  # fmt: skip
    computed_elsewhere(bank, 1, "rotated-digits-25")
    pack_half(work, bank, "rotated-digits-50")


def make_resnet(bank: Path, work: Path) -> None:
    """Convolutions, the images that BatchNorm takes its statistics of, norms, 16 bits, classes of a folder."""
    for task in ("first", "second", "third"):
        save_images(work / task, ("bar", "cross", "ring"), 8, "I;16", 16)
    impress(work, "bank", "create", bank, "folder:first", "--backbone", "resnet-18-nf2", "--image-size", "8",
            "--density", "0.3", "--epochs", "1")  # fmt: skip
    save_images(work / "other", ("left", "right"), 8, "I;16", 16)
    impress(work, "bank", "extend", bank, "folder:other", "--epochs", "1")
    few = ("--epochs", "1")
    impress(work, "task", "add", bank, "folder:second", "--name", "norm-4", "--norm", "4", "--no-vote", *few)
    impress(work, "task", "add", bank, "folder:third", "--name", "norm-8", "--norm", "8", "--norm-layers", "3",
            "--residual", "64", "--no-vote", *few)  # fmt: skip
    impress(work, "task", "add", bank, "folder:third", "--name", "two-groups", "--granularity", "2", "--no-vote", *few)
    pack_half(work, bank, "norm-8")


def make_photos(bank: Path, work: Path) -> None:
    """Weights that others trained, moved; a projection, heads of every width, residual and norm beside one."""
    save_weights(work / "theirs.safetensors")
    names = ("bar", "cross", "ring", "frame")
    for task in ("first", "second", "third"):
        save_images(work / task, names, 32, "RGB", 12)
    save_images(work / "many", [f"{number:02d} {'long name ' * 22}".strip() for number in range(20)], 32, "RGB", 4)
    impress(work, "bank", "create", bank, "folder:first", "folder:second", "--backbone", f"timm:{NETWORK}",
            "--weights", "theirs.safetensors", "--image-size", "32", "--masks-per-task", "0", "--adapt", "1",
            "--mirror")  # fmt: skip
    few = ("--epochs", "2")
    for name, *options in (
        *((f"head-{bits}", "--head", "9", "--head-bits", bits) for bits in (1, 2, 4, 8)),
        ("residual", "--head", "9", "--residual", "256", "--residual-bits", "2", "--residual-layers", "3"),
        ("norm", "--head", "9", "--norm", "4", "--no-signature"),
    ):
        impress(work, "task", "add", bank, "folder:third", "--name", name, *options, *few)
    impress(work, "task", "add", bank, "folder:many", "--name", "many", "--head", "5", *few)
    pack_half(work, bank, "residual")


def make_axes(bank: Path, work: Path) -> None:
    """What only a manifest says of a network: other axes, zeros, tensors without a mask."""
    layers = (
        LayerSpec(name="embed", shape=(1, 3, 4), masked=False),
        LayerSpec(name="up.weight", shape=(4, 6, 3, 3), acts_as=(6, 4, 2, 2)),
        LayerSpec(name="experts.weight", shape=(3, 48), acts_as=(12, 4, 3)),
        LayerSpec(name="fc.weight", shape=(5, 12)),
    )
    spec = BackboneSpec(
        arch="timm:golden_axes",
        init="kaiming-normal",
        seed=3,
        input_shape=(3, 8, 8),
        classes=5,
        layers=layers,
        digest=backbone_digest(3, "kaiming-normal", layers),
        logits=(0.25, -0.5),
        zeros=("up.shift",),
    )
    write_plan(bank, manifest_of(spec))


def make_hub(bank: Path, work: Path) -> None:
    """Weights of the Hub: their licence, where to get them, and the commit that they are of."""
    layers = (LayerSpec(name="features.weight", shape=(4, 192)), LayerSpec(name="fc.weight", shape=(5, 4)))
    spec = BackboneSpec(
        arch="timm:golden_hub",
        init="signed-constant",
        seed=3,
        input_shape=(3, 8, 8),
        classes=5,
        layers=layers,
        digest=hashlib.sha256(b"golden").hexdigest(),
        pretrained=PretrainedRecord(
            source="hf-hub:golden/weights",
            tensors={"features.weight": hashlib.sha256(b"features").hexdigest()},
            licence="Apache-2.0",
            origin="the Hub",
            revision="0123456789abcdef0123456789abcdef01234567",
        ),
    )
    write_plan(bank, manifest_of(spec))


def manifest_of(spec: BackboneSpec) -> BankManifest:
    """A plan of two random masks that nobody has drawn yet."""
    return BankManifest(
        format_version=2,
        made_with=MadeWith(impress="0.1.0", torch="2.11.0", timm="1.0.31", numpy="2.4.0"),
        seed=3,
        preprocess=Preprocess(
            mode="RGB", size=(8, 8), interpolation="bicubic", mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.25), crop=0.875
        ),
        class_names=tuple("abcde"),
        backbone=spec,
        masks=tuple(
            MaskPlan(kind="random", task=None, density=0.3, seed=seed, fit=None, allocation=allocation)
            for seed, allocation in ((1, "uniform"), (2, "erdos-renyi"))
        ),
        calibration=False,
    )


def computed_elsewhere(path: Path, index: int, task: str) -> None:
    """Let a mask and a task say that another machine computed them; the task in fewer steps, beside many others."""
    bank = open_bank(path)
    mask, values = bank.read_mask(index)
    bank.mask_path(index).unlink()
    signature = None if mask.signature is None else bytes.fromhex(mask.signature)
    bank.write_mask(index, values, mask.accuracy, signature, elsewhere=ELSEWHERE)
    record = bank.read_stored(task).record
    apart = take_apart(bank.task_path(task), bank.task_bytes(task))
    assert record.fit is not None
    assert apart is not None
    fit = msgspec.structs.replace(record.fit, elsewhere=ELSEWHERE, steps=3)
    changed = msgspec.structs.replace(record, fit=fit)
    bank.write_task(changed, apart.parts, replace=True)


def pack_half(work: Path, bank: Path, again: str) -> None:
    """Beside the bank of loose tasks one that has them in packs, but for one loose once more and one removed."""
    packed = bank.with_name(bank.stem + "-packed.impress")
    shutil.copytree(bank, packed)
    impress(work, "bank", "pack", packed)
    loose = open_bank(bank)
    shutil.copy(loose.task_path(again), open_bank(packed).task_path(again))
    impress(work, "task", "remove", packed, loose.task_names()[0])
    remove_locks(packed)
    write_json(packed.parent / f"{packed.stem}.json", contents_of(packed))


def logits_of(path: Path) -> dict[str, list[list[float]]]:
    """What the network answers to two images for each task; what it stands on is where IMPRESS_WEIGHTS says."""
    import torch

    from impress_learn import load_bank

    loaded = load_bank(path)
    shape = (2, *loaded.bank.backbone.input_shape)
    images = torch.from_numpy(2 * words("images", int(np.prod(shape))).reshape(shape) - 1).float()
    with torch.no_grad():
        return {name: loaded.module(name).eval()(images).tolist() for name in loaded.bank.task_names()}


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def packets_of(bank: Bank, task: str) -> list[str]:
    """A task as a packet in hex: whole, and without its signature."""
    return [packet.hex() for packet in packets_of_task(bank, task, names_of_classes(bank))]


def names_of_classes(bank: Bank) -> Callable[[TaskRecord], Sequence[str]]:
    return lambda record: record.class_names or bank.manifest.class_names or ()


def remove_locks(bank: Path) -> None:
    for lock in bank.rglob(".lock"):
        lock.unlink()


def contents_of(path: Path) -> dict[str, Any]:
    """All that a bank says: its manifest, the records of masks and tasks, and SHA-256 of what each array holds."""
    bank = open_bank(path)
    masks = {}
    for index in range(len(bank.manifest.masks) - len(bank.missing_masks())):
        record, layers = bank.read_mask(index)
        masks[str(index)] = {"record": plain(record), "layers": {name: told(layer) for name, layer in layers.items()}}
    tasks = {}
    for name in bank.task_names():
        stored = bank.read_stored(name)
        tasks[name] = {
            "record": plain(stored.record),
            "parts": {part: told(value) for part, value in sorted(stored.values.items())},
        }
    return {"manifest": plain(bank.manifest), "masks": masks, "tasks": tasks}


def plain(record: msgspec.Struct) -> Any:
    return json.loads(msgspec.json.encode(record))


def told(value: object) -> str:
    """What an array, a text or a record of these holds, in 16 digits."""
    if isinstance(value, np.ndarray):
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        content = f"{value.dtype.name} {value.shape}".encode() + little.tobytes()
        return f"{value.dtype.name} {list(value.shape)} {hashlib.sha256(content).hexdigest()[:16]}"
    if isinstance(value, tuple | list):
        return "; ".join(map(told, value))
    if isinstance(value, str | int | float | bytes | None):
        return repr(value) if len(repr(value)) < 100 else hashlib.sha256(repr(value).encode()).hexdigest()[:16]
    fields = getattr(value, "__slots__", None) or vars(value)
    return ", ".join(f"{name}: {told(getattr(value, name))}" for name in fields)


def save_images(folder: Path, classes: Any, side: int, mode: str, count: int) -> None:
    """Images of shapes whose numbers a hash gives, so that they are the same everywhere."""
    for number, name in enumerate(classes):
        for part, images in (("train", count), ("test", 4)):
            (folder / part / name).mkdir(parents=True)
            for index in range(images):
                noise = words(f"{folder.name}/{part}/{number}/{index}", side * side * 3).reshape(side, side, 3)
                image = 60 * noise + 120 * shape_of(number, side, folder.name)[:, :, None]
                path = folder / part / name / f"{index}.png"
                if mode == "I;16":
                    Image.fromarray((17 * image[:, :, 0] + 20).astype(np.uint16)).save(path)
                else:
                    Image.fromarray(image.astype(np.uint8)).convert(mode).save(path)


def shape_of(number: int, side: int, task: str) -> npt.NDArray[np.float64]:
    """A blot at a place that goes with the class and the task."""
    where = words(f"{task}/{number}", 2) * side
    rows, columns = np.mgrid[:side, :side]
    away = np.hypot(rows - where[0], columns - where[1])
    return (away < side / 4).astype(float)


def words(key: str, count: int) -> npt.NDArray[np.float64]:
    """Numbers from 0 to 1."""
    digest = hashlib.sha256(f"golden/{key}".encode()).digest()
    raw = np.random.Philox(key=np.frombuffer(digest[:16], "<u8")).random_raw(count)
    numbers: npt.NDArray[np.float64] = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def save_weights(path: Path) -> None:
    """Weights as if others had trained them."""
    import timm
    import torch
    from safetensors.torch import save_file

    shapes: Mapping[str, torch.Tensor] = timm.create_model(NETWORK, pretrained=False).state_dict()
    save_file({name: torch.from_numpy(some_weights(name, tuple(t.shape))) for name, t in shapes.items()}, path)


def add_weights(work: Path) -> None:
    """Put these weights where a bank looks for them, `work/kept`."""
    save_weights(work / "theirs.safetensors")
    impress(work, "weights", "add", work / "theirs.safetensors")


def some_weights(name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if name.endswith("num_batches_tracked"):
        return np.array(1, np.int64)
    numbers = 2 * words(name, max(1, int(np.prod(shape)))).reshape(shape) - 1
    if len(shape) > 1:
        return (numbers * np.sqrt(6 / np.prod(shape[1:]))).astype(np.float32)
    if name.endswith(("running_var", "weight")):
        return (1 + 0.2 * numbers).astype(np.float32)
    return (0.1 * numbers).astype(np.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
