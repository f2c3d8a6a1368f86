"""Reads a bank of format version 1 with NumPy, safetensors and zstandard alone; written from docs/format.md.

    python docs/read_bank.py BANK TASK INPUT.npy     logits of float32 (N, inputs), for backbone lenet-300-100

A check on the format's description, and a start for readers in other languages. It leaves out what protects against
hostile files; `impress_format` has that.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy
import zstandard


def checked(content: bytes, marker: bytes, find) -> bytes:
    start = find(content, marker) + len(marker)
    blank = content[:start] + b"0" * 32 + content[start + 32 :]
    assert hashlib.sha256(blank).hexdigest()[:32].encode() == content[start : start + 32], "damaged"
    return content


def sealed_tensors(path: Path) -> tuple[dict, dict]:
    content = checked(path.read_bytes(), rb"\"digest\":\"", bytes.find)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["impress"]), safetensors.numpy.load(content)


def weights(seed: int, layer: dict) -> np.ndarray:
    key = hashlib.sha256(f"impress/{seed}/{layer['name']}".encode()).digest()[:16]
    size = math.prod(layer["shape"])
    words = np.random.Philox(key=np.frombuffer(key, "<u8")).random_raw(-(-size // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")[:size].reshape(layer["shape"])
    c = np.float32(math.sqrt(2 / math.prod(layer["shape"][1:])))
    return np.where(bits == 1, c, -c)


def mask(frame: np.ndarray, shape: list[int]) -> np.ndarray:
    height, width = shape[0], math.prod(shape[1:])
    content = np.frombuffer(zstandard.decompress(frame.tobytes()), np.uint8)
    rows, columns = content[:height].view(np.int8), content[height : height + width].view(np.int8)
    bits = np.unpackbits(content[height + width :], bitorder="little")
    matrix = np.zeros((height, width), bool)
    pairs = sorted(((a + b, a, b) for a in set(rows.tolist()) for b in set(columns.tolist())), reverse=True)
    for _, a, b in pairs:
        place = np.ix_(rows == a, columns == b)
        count = matrix[place].size
        matrix[place] = bits[:count].reshape(matrix[place].shape)
        bits = bits[count:]
    return matrix.reshape(shape)


def logits(bank: Path, task: str, x: np.ndarray) -> np.ndarray:
    manifest = json.loads(checked((bank / "bank.json").read_bytes(), b'"digest": "', bytes.rfind))
    backbone = manifest["backbone"]
    assert manifest["format_version"] in (1, 2)
    assert backbone["init"] == "signed-constant"
    record, tensors = sealed_tensors(bank / "tasks" / f"{task}.safetensors")
    alpha = tensors["alpha"].astype(np.float32)
    masks = [sealed_tensors(bank / "masks" / f"{k:05d}.safetensors")[1] for k in range(len(alpha))]
    column = 0
    for layer in backbone["layers"]:
        out = layer["shape"][0]
        groups = min(record.get("granularity", 1), out)
        of_channel = column + np.arange(out) * groups // out
        combined = sum(
            alpha[k, of_channel, None] * mask(masks[k][layer["name"]], layer["shape"]) for k in range(len(alpha))
        )
        x = x @ (weights(backbone["seed"], layer) * combined).T
        column += groups
        if layer is not backbone["layers"][-1]:
            x = np.maximum(x, 0)
    return x


if __name__ == "__main__":
    print(logits(Path(sys.argv[1]), sys.argv[2], np.load(sys.argv[3], allow_pickle=False)).tolist())
