"""The frozen random weights: the same bits from the same seed on every machine.

Only the integer stream of Philox-4x64-10 is used, which is fixed by its definition (Salmon et al. 2011), and
float64 operations that IEEE 754 rounds exactly (+ - * / sqrt). No distribution of NumPy or PyTorch, and no
`log` or `cos` of the C library, whose last bits differ between machines, takes part.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from impress_format.records.fields import Init
from impress_format.records.network import LayerSpec

FloatArray = npt.NDArray[np.float32]

_BLOCK = 1 << 14
"""Weights drawn at a time, a multiple of 64: they fit the cache, and a digest takes constant memory."""
_UNMASKED_SCALE = 0.02
"""Size of random values outside maskable layers: the deviation ViT gives its position embeddings."""


def random_words(seed: int, label: str, count: int) -> npt.NDArray[np.uint64]:
    """The first `count` 64-bit words of the substream (`seed`, `label`)."""
    return _philox(seed, label).random_raw(count)


def substream_key(seed: int, label: str) -> npt.NDArray[np.uint64]:
    """The key, two words, of the Philox stream that is the substream (`seed`, `label`)."""
    key = hashlib.sha256(f"impress/{seed}/{label}".encode()).digest()[:16]
    return np.frombuffer(key, dtype="<u8").astype(np.uint64)


def _philox(seed: int, label: str) -> np.random.Philox:
    return np.random.Philox(key=substream_key(seed, label))


def substream_seed(seed: int, label: str) -> int:
    """A 48-bit seed for (`seed`, `label`): unrelated for neighbouring seeds, exact in JSON and in float64."""
    return int.from_bytes(hashlib.sha256(f"impress/{seed}/{label}".encode()).digest()[:6], "little")


def permutation(seed: int, label: str, size: int) -> npt.NDArray[np.int64]:
    """A uniform permutation of `size` items, the same everywhere: the stable order of random words."""
    return np.argsort(random_words(seed, label, size), kind="stable")


def layer_weights(seed: int, init: Init, layer: LayerSpec) -> FloatArray:
    """Float32 weights of one layer, shape `layer.shape`.

    signed-constant: +-sqrt(2 / fan_in), Ramanujan et al. 2019. kaiming-normal: N(0, 2 / fan_in), He et al. 2015.
    """
    weights = np.empty(layer.size, dtype=np.float32)
    for start, block in zip(range(0, layer.size, _BLOCK), _blocks(seed, init, layer), strict=True):
        weights[start : start + _BLOCK] = block
    return weights.reshape(layer.shape)


def layer_scale(layer: LayerSpec) -> float:
    """Standard deviation of a layer's weights."""
    return math.sqrt(2.0 / layer.fan_in) if layer.masked else _UNMASKED_SCALE


def backbone_digest(seed: int, init: Init, layers: Iterable[LayerSpec]) -> str:
    """Digest of the backbone that `seed` gives, without building it, in constant memory."""
    return _digest((layer, _blocks(seed, init, layer)) for layer in layers)


def weights_digest(weights: Iterable[tuple[LayerSpec, FloatArray]]) -> str:
    """SHA-256 over name, shape and little-endian float32 weights of every layer, in order."""
    return _digest((layer, [values]) for layer, values in weights)


def _digest(weights: Iterable[tuple[LayerSpec, Iterable[FloatArray]]]) -> str:
    digest = hashlib.sha256()
    for layer, blocks in weights:
        digest.update(f"{layer.name}:{','.join(map(str, layer.shape))}\n".encode())
        for block in blocks:
            digest.update(np.ascontiguousarray(block, dtype="<f4").data)
    return digest.hexdigest()


def _blocks(seed: int, init: Init, layer: LayerSpec) -> Iterator[FloatArray]:
    """One layer's weights in C order, `_BLOCK` at a time: the same stream as if drawn at once."""
    words, scale = _philox(seed, layer.name), layer_scale(layer)
    for start in range(0, layer.size, _BLOCK):
        count = min(_BLOCK, layer.size - start)
        if init == "signed-constant" or not layer.masked:
            yield _signs(words.random_raw(-(-count // 64)), count) * np.float32(scale)
        else:
            # Centre of one of 2**52 equal cells of (0, 1): never 0 or 1, and exact in float64.
            cells = words.random_raw(count) >> np.uint64(12)
            uniform = (cells.astype(np.float64) + 0.5) * 2.0**-52
            yield (_normal_quantile(uniform) * scale).astype(np.float32)


def _signs(words: npt.NDArray[np.uint64], count: int) -> FloatArray:
    """+1 where the stream's bit is one, else -1; least significant bit of each word first."""
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), count=count, bitorder="little")
    return bits.astype(np.float32) * np.float32(2) - np.float32(1)


def _log(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Natural logarithm by 2 atanh((m-1)/(m+1)) + e ln 2, in exactly rounded steps only."""
    mantissa, exponent = np.frexp(x)  # mantissa in [0.5, 1)
    low = mantissa < math.sqrt(0.5)
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    exponent = exponent - low
    z = (mantissa - 1.0) / (mantissa + 1.0)  # |z| <= 0.1716, so z**24 / 25 is below the rounding error
    square = z * z
    series = np.zeros_like(z)
    for odd in range(25, 0, -2):
        series = series * square + 1.0 / odd
    return np.asarray(2.0 * z * series + exponent * 0.6931471805599453, dtype=np.float64)


# Wichura 1988, Algorithm AS 241 (PPND16): coefficients of the three rational approximations, highest power last.
_CENTRE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
_MIDDLE = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_TAIL = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip


def _rational(coefficients: tuple[tuple[float, ...], ...], x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above, below = (np.zeros_like(x), np.zeros_like(x))
    for a, b in zip(reversed(coefficients[0]), reversed(coefficients[1]), strict=True):
        above, below = above * x + a, below * x + b
    return above / below


def _normal_quantile(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Inverse of the standard normal distribution function, to about 1e-16 (AS 241)."""
    q = p - 0.5
    tail = np.minimum(p, 1.0 - p)
    r = np.sqrt(-_log(tail))
    outer = np.where(r <= 5.0, _rational(_MIDDLE, r - 1.6), _rational(_TAIL, r - 5.0))
    centre = q * _rational(_CENTRE, 0.180625 - q * q)
    return np.where(np.abs(q) <= 0.425, centre, np.copysign(outer, q))
