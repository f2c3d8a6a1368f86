"""Accuracy of tasks that fit into one packet of a link: LoRaWAN 51, 115 and 222 bytes, SMS 140, BLE 244.

    python tests/benchmarks/packets.py DATA_DIR FOLDER BANK REF... [--sizes 51,115] [--csv FILE]

Each task is learned with `--packet N` in a copy of BANK, exported, and imported into another copy that never saw its
data; accuracy is measured there, on test images. Beside it stands what a byte would say: the one mask that does best on
the task's training images, as it is (of a bank without masks nothing does). FOLDER keeps the copies.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path
from statistics import mean

from impress_format.bank import open_bank
from impress_learn import Parts, add_tasks, evaluate
from impress_learn.jobs.packets import Told, export_packet, import_tasks

SIZES = "51,115,140,222,244"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("bank", type=Path)
    parser.add_argument("references", nargs="+")
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--csv", type=Path)
    asked = parser.parse_args()
    sender, receiver = (_copy(asked.bank, asked.folder / f"{which}.impress") for which in ("sender", "receiver"))
    rows: list[tuple[str, str, int, str, float]] = []
    for reference in asked.references:
        for size in map(int, asked.sizes.split(",")):
            name = f"{reference.replace('/', '-')}-{size}"
            add_tasks(sender, [reference], name=name, parts=Parts(packet=size), data_dir=asked.data_dir)
            file = asked.folder / f"{name}.packet"
            file.unlink(missing_ok=True)
            sent = export_packet(sender, name, file, size)
            import_tasks(receiver, [file], name=name, told=Told(reference=reference))
            (measured,) = evaluate(receiver, [name], data_dir=asked.data_dir)
            arrived = measured.accuracy
            rows.append((reference, str(size), sent.bytes, " + ".join(sent.parts), arrived))
            print(*rows[-1], sep="\t", flush=True)
        if open_bank(sender).manifest.masks:
            (control,) = evaluate(sender, [name], wrong_mask=True, data_dir=asked.data_dir)
            assert control.best_mask is not None
            rows.append((reference, "nearest mask", 1, "", control.best_mask.accuracy))
            print(*rows[-1], sep="\t", flush=True)
    for kind in dict.fromkeys(row[1] for row in rows):
        of_size = [row[4] for row in rows if row[1] == kind]
        print(f"{kind}: mean {mean(of_size):.4f} ({min(of_size):.4f} to {max(of_size):.4f}) of {len(of_size)} tasks")
    if asked.csv:
        with asked.csv.open("w", newline="") as file:
            csv.writer(file).writerows([("task", "size", "bytes", "parts", "accuracy"), *rows])


def _copy(bank: Path, path: Path) -> Path:
    """A copy of a bank without its tasks."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(bank, path)
        for name in open_bank(path).task_names():
            open_bank(path).remove_task(name)
    return path


if __name__ == "__main__":
    main()
