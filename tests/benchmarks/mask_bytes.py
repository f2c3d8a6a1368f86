"""Bytes of trained masks: the format's coding beside other ways and beside bounds. For docs/results, "Mask bytes".

    python tests/benchmarks/mask_bytes.py BANK...

One line a bank, the mean over its first two masks, all layers, kB without headers:

- `H(s)n`: entropy of independent bits of the layer's density
- `plain 3 / 19 / 22`: zstd of the packed bits in C order, by level; `columns`: level 19, columns first
- `dict`: as plain 19, with a zstd dictionary: the packed bits of the bank's last mask
- `xor`: as plain 19, of the exclusive or with the bank's last mask (joint coding); random where bits are independent
- `gaps`: bytes of gaps between ones, in order of density classes, one zstd frame
- `impress`: what the format does
- `ideal`: an ideal arithmetic coder with the same classes of rows and columns, classes paid for
- `context`: an ideal arithmetic coder that mixes those classes with the bits of the two neighbouring pixels and those
  of the bank's last mask, weights learned as it goes: a bound for practical context modelling
"""

from __future__ import annotations

import sys
import time

import numpy as np
import zstandard

from impress_format import open_bank
from impress_format.container.codec import (
    _density_classes,
    _log_odds,
    decode_mask,
    encode_mask,
    entropy_bytes,
    pack_bits,
)

Matrix = np.ndarray


def zstd(content: bytes, level: int = 19, dictionary: bytes | None = None) -> int:
    dict_data = zstandard.ZstdCompressionDict(dictionary, zstandard.DICT_TYPE_RAWCONTENT) if dictionary else None
    return len(zstandard.ZstdCompressor(level=level, dict_data=dict_data).compress(content))


def gaps(matrix: Matrix) -> int:
    rows, columns = _density_classes(matrix)
    order = np.argsort(-(rows[:, None].astype(np.int16) + columns).reshape(-1), kind="stable")
    between = np.diff(np.flatnonzero(matrix.reshape(-1)[order]), prepend=-1) - 1
    stops = np.cumsum(between // 255 + 1)  # 255 stands for 255 zeros and no one yet
    content = np.full(stops[-1], 255, np.uint8)
    content[stops - 1] = between % 255
    return zstd(rows.tobytes() + columns.tobytes()) + zstd(content.tobytes())


def code_length(share: Matrix, bits: Matrix) -> float:
    share = np.clip(share, 1 / 4096, 1 - 1 / 4096)
    return float(-np.where(bits, np.log2(share), np.log2(1 - share)).sum() / 8)


def ideal(matrix: Matrix) -> float:
    """Each sum of classes with its own density (two bytes a density)."""
    rows, columns = _density_classes(matrix)
    sums = (rows[:, None].astype(np.int16) + columns).reshape(-1)
    flat = matrix.reshape(-1)
    parts = [flat[sums == value] for value in np.unique(sums)]
    return zstd(rows.tobytes() + columns.tobytes()) + sum(
        2 + entropy_bytes(len(part), int(np.count_nonzero(part))) for part in parts
    )


def context(matrix: Matrix, other: Matrix, width: int) -> float:
    """Column by column (pixel by pixel), all rows at once; logistic mixing, coded before it learns from the bits."""
    rows, columns = _density_classes(matrix)
    typical = _log_odds(int(np.count_nonzero(matrix)), matrix.size)
    share = np.count_nonzero(matrix) / matrix.size
    bits = matrix.astype(float)
    weights, squares = np.array([0.0, 1.0, 0.0, 0.0, 0.0]), np.full(5, 1e-3)
    total = float(zstd(rows.tobytes() + columns.tobytes()))
    for column in range(matrix.shape[1]):
        left = bits[:, column - 1] - share if column else np.zeros(len(bits))
        above = bits[:, column - width] - share if column >= width else np.zeros(len(bits))
        inputs = np.stack(
            [np.ones(len(bits)), rows + float(columns[column]), left, above, other[:, column] - share], axis=1
        )
        estimate = 1 / (1 + np.exp(-(typical + inputs @ weights)))
        total += code_length(estimate, matrix[:, column])
        gradient = inputs.T @ (bits[:, column] - estimate) / len(bits)
        squares += gradient**2
        weights += 0.1 * gradient / np.sqrt(squares)
    return total


def main(paths: list[str]) -> None:
    print(f"{'bank':22}{'density':>8}{'H(s)n':>8}{'plain 3':>9}{'19':>7}{'22':>7}{'columns':>9}{'dict':>7}{'xor':>7}"
          f"{'gaps':>7}{'impress':>9}{'ideal':>7}{'context':>9}{'ms':>6}")  # fmt: skip
    for path in paths:
        bank = open_bank(path)
        planned = range(len(bank.manifest.masks))
        masks = [{name: mask != 0 for name, mask in bank.read_mask(index)[1].items()} for index in planned]
        sums = np.zeros(11)
        seconds = 0.0
        used = range(min(2, len(masks) - 1))
        for index in used:
            for name, mask in masks[index].items():
                matrix, other = (m[name].reshape(len(mask), -1) for m in (masks[index], masks[-1]))
                packed, last = pack_bits(matrix), pack_bits(other)
                frame = encode_mask(mask)
                ones = int(np.count_nonzero(mask))
                started = time.perf_counter()
                assert np.array_equal(decode_mask(frame, mask.shape, ones)[0], mask)
                seconds += time.perf_counter() - started
                sums += [
                    entropy_bytes(mask.size, ones),
                    *(zstd(packed, level) for level in (3, 19, 22)),
                    zstd(pack_bits(np.ascontiguousarray(matrix.T))),
                    zstd(packed, dictionary=last),
                    zstd(pack_bits(matrix ^ other)),
                    gaps(matrix),
                    len(frame),
                    ideal(matrix),
                    context(matrix, other.astype(float), 28 if matrix.shape[1] == 784 else 3),
                ]
        h, p3, p19, p22, columns, dictionary, xor, gap, ours, best, bound = sums / len(used) / 1e3
        density = bank.manifest.masks[0].density
        print(f"{bank.path.name:22}{density:8.2f}{h:8.1f}{p3:9.1f}{p19:7.1f}{p22:7.1f}{columns:9.1f}{dictionary:7.1f}"
              f"{xor:7.1f}{gap:7.1f}{ours:9.1f}{best:7.1f}{bound:9.1f}{1e3 * seconds / len(used):6.1f}")  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
