"""Reads a bank of format version 1 or 2 with NumPy, safetensors and zstandard alone; written from docs/format.md.

    python docs/read_bank.py BANK TASK INPUT.npy     logits of float32 (N, inputs), for backbone lenet-300-100

Of a task with a head, inputs are the features of its network, whatever that is: `adapted` gives the network's weights.

A check on the format's description, and a start for readers in other languages. It leaves out what protects against
hostile files; `impress_format` has that.
"""

import bisect
import hashlib
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy
import zstandard

SHORT = b'{"__metadata__":{"impress":"2"}'
PARTS = ("alpha", "residual", "mask", "norm", "head", "vote", "classes", "signature")


def checked(content: bytes, start: int) -> bytes:
    blank = content[:start] + b"0" * 32 + content[start + 32 :]
    assert hashlib.sha256(blank).hexdigest()[:32].encode() == content[start : start + 32], "damaged"
    return content


def short(content: bytes) -> tuple[list, dict]:
    """Record and parts of a task's own file: a header that only says how long the rest is, and one row of bytes."""
    start = 8 + int.from_bytes(content[:8], "little")
    blank = content[:start] + bytes(16) + content[start + 16 :]
    assert hashlib.sha256(blank).digest()[:16] == content[start : start + 16], "damaged"
    own, shared, entries, rest = content[start + 24 :].split(b"\n", 3)
    own = own if own.endswith((b'"', b"]")) else own + b",null"
    parts, first = {}, 0
    for letter, *sides, kind in re.findall(r"([a-z])(\d+)(?:x(\d+)([ef]))?", entries.decode()):
        shape, dtype = [int(side) for side in sides if side], {"": "u1", "e": "<f2", "f": "<f4"}[kind]
        part = np.frombuffer(rest, dtype, math.prod(shape), first).reshape(shape)
        parts[next(name for name in PARTS if name.startswith(letter))] = part
        first += part.nbytes
    basis = content[start + 16 : start + 24].hex().encode()
    return json.loads(b'["",2,%s,"%s",%s]' % (own, basis, shared)), parts


def sealed(content: bytes) -> tuple[dict | list, dict]:
    """Record and tensors of a safetensors file."""
    marker = next(m for m in (rb'"impress":"[\"', rb"\"digest\":\"") if m in content)
    checked(content, content.find(marker) + len(marker))
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["impress"]), safetensors.numpy.load(content)


def task(bank: Path, name: str) -> tuple[dict | list, dict]:
    """Record and tensors of a loose task, or of one in a pack: the last whose name is not greater."""
    if (path := bank / "tasks" / f"{name}.safetensors").exists():
        content = path.read_bytes()
        return short(content) if SHORT in content[:40] else sealed(content)
    assert not (bank / "tasks" / f"{name}.removed").exists(), "no such task"
    for path in (bank / "packs").glob("*.safetensors"):
        columns = sealed(path.read_bytes())[1]
        own, common = (texts(columns[f"{half}.text"], columns[f"{half}.end"]) for half in ("own", "common"))
        row = bisect.bisect_left(own, name.encode(), key=name_of)
        if row < len(own) and name_of(own[row]) == name.encode():
            text = b'["",2,%s,%s]' % (own[row], common[columns["common.of"][row]])
            parts = {key: column[row] for key, column in columns.items() if "." not in key and key != "digest"}
            return json.loads(text), parts
    raise AssertionError("no such task")


def texts(content: np.ndarray, ends: np.ndarray) -> list[bytes]:
    return [content[start:end].tobytes() for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def name_of(own: bytes) -> bytes:
    task, _, _, name = json.loads(b"[%s]" % own)
    name = name[0] if isinstance(name, list) else name  # followed by the names of its classes
    return (name or task.replace("/", "-")).encode()


def numbers(stored: np.ndarray, columns: int) -> np.ndarray:
    if stored.dtype != np.uint8:
        return stored.astype(np.float32)
    scales = stored[-2 * columns :].view("<f2").astype(np.float32)
    return stored[: -2 * columns].view(np.int8).reshape(-1, columns) * scales


def weights(seed: int, layer: dict) -> np.ndarray:
    key = hashlib.sha256(f"impress/{seed}/{layer['name']}".encode()).digest()[:16]
    size = math.prod(layer["shape"])
    words = np.random.Philox(key=np.frombuffer(key, "<u8")).random_raw(-(-size // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")[:size].reshape(layer["shape"])
    c = np.float32(math.sqrt(2 / math.prod(layer.get("acts_as", layer["shape"])[1:])))
    return np.where(bits == 1, c, -c)


def mask(frame: np.ndarray, shape: list[int], kind: str) -> np.ndarray:
    height, width = shape[0], math.prod(shape[1:])
    content = np.frombuffer(zstandard.decompress(frame.tobytes()), np.uint8)
    rows, columns = content[:height].view(np.int8), content[height : height + width].view(np.int8)
    end = height + width + -(-height * width // 8)
    bits = np.unpackbits(content[height + width : end], bitorder="little")
    matrix = np.zeros((height, width), bool)
    pairs = sorted(((a + b, a, b) for a in set(rows.tolist()) for b in set(columns.tolist())), reverse=True)
    for _, a, b in pairs:
        place = np.ix_(rows == a, columns == b)
        count = matrix[place].size
        matrix[place] = bits[:count].reshape(matrix[place].shape)
        bits = bits[count:]
    return weighed(matrix, content[end:], kind).reshape(shape)


def weighed(ones: np.ndarray, values: np.ndarray, kind: str) -> np.ndarray:
    """What the ones of a mask weigh."""
    if kind == "binary":
        return ones
    each = ones.astype(np.float32)
    if kind == "signed":
        each[ones] -= 2 * np.unpackbits(values, bitorder="little")[: ones.sum()]
    else:
        each[ones] = values[:-2].view(np.int8) * values[-2:].view("<f2").astype(np.float32)
    return each


def levels(stored: np.ndarray, bits: int, count: int) -> np.ndarray:
    """What codes of so many bits stand for, before their scale: -3 -1 1 3 for two."""
    stream = np.unpackbits(stored, bitorder="little")[: count * bits].reshape(count, bits)
    return 2 * (stream.astype(int) @ 2 ** np.arange(bits)) - (2**bits - 1)


def residual(stored: np.ndarray, bits: int, seed: int, layers: list[dict]) -> dict[str, np.ndarray]:
    """What a residual adds to the combination of masks, for each layer."""
    count = (len(stored) - 2 * len(layers)) * 8 // bits
    each = levels(stored[: count * bits // 8], bits, count)
    scales = stored[count * bits // 8 :].view("<f2").astype(np.float32)
    sizes = [math.prod(layer["shape"]) for layer in layers]
    shares = [math.isqrt(math.isqrt(size**3)) for size in sizes]
    spare = count - len(layers)
    parts = [1 + spare * share // sum(shares) for share in shares]
    by_rest = sorted(range(len(layers)), key=lambda i: (-(spare * shares[i] % sum(shares)), i))
    for index in by_rest[: count - sum(parts)]:
        parts[index] += 1
    added, start = {}, 0
    for layer, size, part, scale in zip(layers, sizes, parts, scales, strict=True):
        key = hashlib.sha256(f"impress/{seed}/residual/{layer['name']}".encode()).digest()[:16]
        words = np.random.Philox(key=np.frombuffer(key, "<u8")).random_raw(-(-size // 2)).astype("<u8").view("<u4")
        places = (words[:size].astype(np.uint64) * np.uint64(part)) >> np.uint64(32)
        values = each[start : start + part] * scale
        added[layer["name"]] = values[places.astype(int)].reshape(layer["shape"])
        start += part
    return added


def head(stored: np.ndarray, bits: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight (classes, d) and bias of a head, d the most that its bytes hold."""
    end = len(stored) - 4 * classes
    d = end * 8 // (bits * classes)
    scales, biases = stored[end:].view("<f2").astype(np.float32).reshape(2, classes)
    return levels(stored[:end], bits, classes * d).reshape(classes, d) * scales[:, None], biases


def projected(bank: Path, features: np.ndarray) -> np.ndarray:
    """Where features of images (N, F) lie."""
    tensors = sealed((bank / "projection.safetensors").read_bytes())[1]
    mean, stored = tensors["mean"].astype(np.float32), tensors["directions"]
    return (features - mean) @ numbers(stored, len(stored) // (len(mean) + 2))


def adapted(bank: Path, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights that heads of tasks stand on, of those of all masked layers in order."""
    record, tensors = sealed((bank / "projection.safetensors").read_bytes())
    if not record["layers"]:
        return weights
    names = [name for name in list(weights)[-1 - record["layers"] : -1] if weights[name].shape[1] > 1]
    moved, first, channel = {}, 0, 0
    by = levels(tensors["codes"], record["bits"], sum(weights[name].size for name in names))
    for name in names:
        shape = weights[name].shape
        steps = tensors["steps"][channel : channel + shape[0]].astype(np.float32).reshape(-1, *[1] * (len(shape) - 1))
        size = math.prod(shape)
        moved[name] = weights[name] + by[first : first + size].reshape(shape).astype(np.float32) * steps
        first, channel = first + size, channel + shape[0]
    return {**weights, **moved}


def logits(bank: Path, name: str, x: np.ndarray) -> np.ndarray:
    content = (bank / "bank.json").read_bytes()
    manifest = json.loads(checked(content, content.rfind(b'"digest": "') + 11))
    backbone = manifest["backbone"]
    assert manifest["format_version"] in (1, 2)
    record, parts = task(bank, name)
    said = [0] * 13 if isinstance(record, dict) else [*record, *[1, 0, 0, 0, 0][len(record) - 8 :]]
    # With the defaults of granularity to classes. Of a record of version 1 only the number of classes is asked: all.
    if "head" in parts:
        assert "residual" not in parts, "this reader leaves out residuals beside a head"
        weight, bias = head(parts["head"], said[10], said[12] or backbone["classes"])
        return projected(bank, x)[:, : weight.shape[1]] @ weight.T + bias
    assert backbone["init"] == "signed-constant"
    kinds = [plan.get("type", "binary") for plan in manifest["masks"]]
    if "vote" in parts:
        shares = parts["vote"] / parts["vote"].sum()
        each = [answer(backbone, x, masked(bank, backbone, k, kinds[k])) for k in np.flatnonzero(shares)]
        return voted(shares[shares > 0], np.stack(each)[:, :, : said[12] or backbone["classes"]])
    granularity = record.get("granularity", 1) if isinstance(record, dict) else [*record, 1][8]
    bits = 0 if isinstance(record, dict) else ([*record, 0] if len(record) == 9 else [*record, 1, 0])[9]
    own = parts.get("mask")
    combined_layers = backbone["layers"] if own is None else backbone["layers"][:-1]
    columns = sum(min(granularity, layer["shape"][0]) for layer in combined_layers)
    alpha = numbers(parts["alpha"], columns) if "alpha" in parts else np.zeros((0, columns), np.float32)
    added = residual(parts["residual"], bits, backbone["seed"], backbone["layers"]) if bits else {}
    masks = [sealed((bank / "masks" / f"{k:05d}.safetensors").read_bytes())[1] for k in range(len(alpha))]
    column, combinations = 0, {}
    for layer in backbone["layers"]:
        out = layer["shape"][0]
        groups = min(granularity, out)
        of_channel = column + np.arange(out) * groups // out
        combined = added.get(layer["name"], 0.0)
        if layer in combined_layers:
            for k in range(len(alpha)):
                combined = combined + alpha[k, of_channel, None] * mask(
                    masks[k][layer["name"]], layer["shape"], kinds[k]
                )
        else:
            bits = np.unpackbits(own, bitorder="little")[: math.prod(layer["shape"])]
            combined = combined + bits.reshape(layer["shape"])
        combinations[layer["name"]] = combined
        column += groups
    return answer(backbone, x, combinations)[:, : said[12] or backbone["classes"]]


def masked(bank: Path, backbone: dict, index: int, kind: str) -> dict[str, np.ndarray]:
    """What one mask leaves of each layer."""
    frames = sealed((bank / "masks" / f"{index:05d}.safetensors").read_bytes())[1]
    return {layer["name"]: mask(frames[layer["name"]], layer["shape"], kind) for layer in backbone["layers"]}


def answer(backbone: dict, x: np.ndarray, combinations: dict[str, np.ndarray]) -> np.ndarray:
    """Logits of LeNet under effective weights that are the frozen ones times these."""
    for layer in backbone["layers"]:
        x = x @ (weights(backbone["seed"], layer) * combinations[layer["name"]]).T
        if layer is not backbone["layers"][-1]:
            x = np.maximum(x, 0)
    return x


def voted(shares: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """What masks (K) that answer with logits (K, N, classes) come to."""
    exponentials = np.exp((logits - logits.max(2, keepdims=True)) / 3)
    softmax = exponentials / exponentials.sum(2, keepdims=True)
    return 3 * np.log(np.tensordot(shares, softmax, 1))


if __name__ == "__main__":
    print(logits(Path(sys.argv[1]), sys.argv[2], np.load(sys.argv[3], allow_pickle=False)).tolist())
