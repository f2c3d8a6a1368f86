"""Rebuild a bank of this zoo with the commands of its model card, and compare every file with the index.

    python zoo/rebuild.py digits-rotated

Exit status 1 if a file differs. A bank that was created with `--reproducible` (all but photos-cifar100) has equal bytes
on every x86-64 machine with AVX2. Another bank has them on the machine that trained it; elsewhere sums of floats may
round in another order, and the report says how far the results are from each other.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from impress_format import open_bank
from impress_format.bank_files.folder import MANIFEST
from impress_format.bank_files.projection import PROJECTION
from impress_format.parts.alpha import coefficients_of
from impress_format.parts.head import HEAD
from impress_format.parts.numbers import FloatArray
from impress_format.records.manifest import BankManifest
from impress_format.tasks.file import StoredTask
from impress_format.zoo.entry import bank_files
from impress_format.zoo.index import ZooBank, find_bank, parse_index

ZOO = Path(__file__).parent


def commands(card: str) -> list[list[str]]:
    """The lines of the code block below the heading Rebuild."""
    block = re.search(r"^## Rebuild\n\n```\n(.*?)```", card, flags=re.MULTILINE | re.DOTALL)
    if block is None:
        raise SystemExit("the card has no commands below the heading Rebuild")
    return [shlex.split(line, comments=True) for line in block[1].splitlines() if shlex.split(line, comments=True)]


def differing(bank: ZooBank, folder: Path) -> list[str]:
    """Paths that are not in both, or are not equal; what made it and its logits do not count in the manifest."""
    wanted = {file.path: file.sha256 for file in bank.files}
    found = {file.path: file.sha256 for file in bank_files(folder)}
    paths = sorted(path for path in wanted | found if wanted.get(path) != found.get(path))
    old, new = open_bank(ZOO / bank.folder).manifest, open_bank(folder).manifest
    same = told_by(old) == told_by(new)
    return [path for path in paths if path != MANIFEST or not same]


def told_by(manifest: BankManifest) -> tuple[object, ...]:
    backbone = manifest.backbone
    return backbone.digest, backbone.pretrained, manifest.masks, manifest.calibration, manifest.preprocess


def describe(name: str, rebuilt: Path, path: str) -> str:
    """What differs in one file, in numbers."""
    old, new = open_bank(ZOO / f"{name}.impress"), open_bank(rebuilt)
    stem = Path(path).stem
    try:
        if path.startswith("masks/"):
            (was, before), (now, after) = old.read_mask(int(stem)), new.read_mask(int(stem))
            same = sum(int((before[layer] == after[layer]).sum()) for layer in before)
            return f"{same:,} of {old.backbone.weights:,} bits equal, accuracy {was.accuracy} and {now.accuracy}"
        if path.startswith("tasks/"):
            one, other = old.read_stored(stem), new.read_stored(stem)
            parts = "".join(f"{part} {apart(*values)}, " for part, values in numbers_of(one, other).items())
            return f"{parts}accuracy {one.record.accuracy} and {other.record.accuracy}"
        if path == old.files.path(PROJECTION).name:
            (_, one), (_, other) = old.files.read(PROJECTION), new.files.read(PROJECTION)
            if one.adaptation and other.adaptation:
                same = (one.adaptation.codes == other.adaptation.codes).mean()
                return f"{same:.1%} of the codes that moved the network equal"
    except Exception as error:
        return str(error)
    return "differs"


def numbers_of(one: StoredTask, other: StoredTask) -> dict[str, tuple[FloatArray, FloatArray]]:
    """The coefficients and the head that two tasks have, side by side."""
    found = {}
    alphas, heads = [coefficients_of(task) for task in (one, other)], [HEAD.of(task) for task in (one, other)]
    if alphas[0] is not None and alphas[1] is not None:
        found["coefficients"] = (alphas[0], alphas[1])
    if heads[0] is not None and heads[1] is not None:
        found["head"] = (heads[0].weight, heads[1].weight)
    return found


def apart(one: FloatArray, other: FloatArray) -> str:
    return f"at most {abs(one - other).max():.3g} apart" if one.shape == other.shape else "of other shape"


def main(name: str) -> int:
    bank = find_bank(parse_index("zoo", (ZOO / "index.json").read_bytes()), name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory(prefix="impress-rebuild-") as folder:
        for command in commands((ZOO / bank.card).read_text()):
            print("$", shlex.join(command), flush=True)
            subprocess.run(command, cwd=folder, env=environment, check=True)
        rebuilt = Path(folder) / bank.folder
        wrong = differing(bank, rebuilt)
        for path in wrong:
            print(f"{path}: {describe(name, rebuilt, path)}")
    print(
        f"{name}: {len(wrong)} of {len(bank.files)} files differ" if wrong else f"{name}: digest {bank.digest}, equal"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "digits-rotated"))
