"""Weights that share values: products and gradients are those of indexing."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from impress_learn.masks.gather import gather_times


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**31))
def test_it_is_indexing_and_a_product(count: int, rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=generator, dtype=torch.float32).requires_grad_()
    places = torch.randint(0, count, (rows, columns), generator=generator)
    factors, weights = (torch.randn(rows, columns, generator=generator) for _ in range(2))
    expected = values.detach().clone().requires_grad_()
    (expected[places] * factors * weights).sum().backward()
    found = gather_times(values, places, factors)
    assert torch.equal(found, expected.detach()[places] * factors)
    (found * weights).sum().backward()
    torch.testing.assert_close(values.grad, expected.grad)
