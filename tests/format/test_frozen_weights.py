"""The frozen weights are fixed by docs/format.md, bit for bit, not by any library's distribution."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from impress_format.records.fields import Init
from impress_format.records.network import LayerSpec
from impress_format.weights import backbone_digest, layer_weights, permutation, random_words, substream_seed

LENET = (
    LayerSpec(name="fc1.weight", shape=(300, 784)),
    LayerSpec(name="fc2.weight", shape=(100, 300)),
    LayerSpec(name="fc3.weight", shape=(10, 100)),
)
GOLDEN: dict[tuple[Init, int], str] = {
    ("signed-constant", 0): "220e660addc852cc2fddfba0b0ac49b2c516741afd2077b48298e197a5347443",
    ("signed-constant", 1): "758205faafc4fd5acaf4d783b55e4016a03777bf318a6d70761a704df3e29e7a",
    ("kaiming-normal", 0): "32d8388a89625e5fbc99a8312e0a149eaa86f17276f3ecd0b5fd472c4c0278ad",
    ("kaiming-normal", 1): "8d14dfd7e5a434f9a464b6e706d8f9e7c957716b4fa594731dcac9a830ba5baa",
}
LOW = (1 << 64) - 1


def philox_4x64_10(key: tuple[int, int], blocks: int) -> list[int]:
    """Salmon et al. 2011, written from the paper: words of counters 1, 2, ... as NumPy counts them."""
    words = []
    for number in range(1, blocks + 1):
        c, k = [number, 0, 0, 0], list(key)
        for round_ in range(10):
            if round_:
                k = [(k[0] + 0x9E3779B97F4A7C15) & LOW, (k[1] + 0xBB67AE8584CAA73B) & LOW]
            first, second = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
            c = [(second >> 64) ^ c[1] ^ k[0], second & LOW, (first >> 64) ^ c[3] ^ k[1], first & LOW]
        words += c
    return words


@pytest.mark.parametrize(("seed", "name"), [(0, "fc1.weight"), (7, "layer4.1.conv2.weight"), (2**53 - 1, "é")])
def test_words_are_those_of_philox_under_the_specified_key(seed: int, name: str) -> None:
    key = hashlib.sha256(f"impress/{seed}/{name}".encode()).digest()
    expected = philox_4x64_10((int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")), blocks=5)
    assert random_words(seed, name, 20).tolist() == expected


@pytest.mark.parametrize(("init", "seed"), GOLDEN)
def test_lenet_has_its_golden_digest(init: Init, seed: int) -> None:
    assert backbone_digest(seed, init, LENET) == GOLDEN[init, seed]


def test_signed_constant_takes_bits_in_order_and_scales_by_fan_in() -> None:
    layer = LayerSpec(name="conv", shape=(6, 5, 3, 3))
    words = [int(word) for word in random_words(3, "conv", 5)]
    signs = [1 if words[i // 64] >> (i % 64) & 1 else -1 for i in range(layer.size)]
    expected = np.array(signs) * np.float32(math.sqrt(2 / 45))
    assert np.array_equal(layer_weights(3, "signed-constant", layer).ravel(), expected)


def test_signs_are_balanced() -> None:
    weights = layer_weights(0, "signed-constant", LENET[0])
    assert abs(np.sign(weights).mean()) < 4 / math.sqrt(weights.size)


def test_kaiming_normal_is_the_normal_quantile_of_the_specified_uniforms() -> None:
    uniform = ((random_words(5, "fc2.weight", 30_000) >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52
    expected = norm.ppf(uniform) * math.sqrt(2 / 300)
    np.testing.assert_allclose(layer_weights(5, "kaiming-normal", LENET[1]).ravel(), expected, rtol=2e-7)


def test_tensors_without_mask_are_small_signs() -> None:
    layer = LayerSpec(name="pos_embed", shape=(1, 5, 12), masked=False)
    assert set(np.abs(layer_weights(0, "kaiming-normal", layer)).ravel()) == {np.float32(0.02)}


def test_a_layer_does_not_depend_on_the_others() -> None:
    alone = layer_weights(0, "signed-constant", LENET[1])
    again = [layer_weights(0, "signed-constant", layer) for layer in (*LENET, LENET[1])][-1]
    assert np.array_equal(alone, again)


@pytest.mark.parametrize(("seed", "name"), [(1, "fc1.weight"), (0, "fc1.weight2"), (10, "fc1.weight")])
def test_other_seeds_and_names_give_unrelated_weights(seed: int, name: str) -> None:
    one = layer_weights(0, "signed-constant", LENET[0]).ravel()
    other = layer_weights(seed, "signed-constant", LayerSpec(name=name, shape=(300, 784))).ravel()
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(one.size)


@given(st.integers(0, 2**53 - 1), st.text(max_size=20))
def test_derived_seeds_are_exact_in_json_and_differ_from_the_neighbours(seed: int, label: str) -> None:
    derived = substream_seed(seed, label)
    assert 0 <= derived < 2**48
    assert derived != substream_seed(seed + 1, label)


@given(st.integers(0, 2**31), st.integers(1, 900))
def test_permutation_holds_every_index_once(seed: int, size: int) -> None:
    assert sorted(permutation(seed, "pixels", size).tolist()) == list(range(size))
