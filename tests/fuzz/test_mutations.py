"""Files under mutation, in the normal test run: only this project's errors come out. `make fuzz` searches deeper."""

from __future__ import annotations

from pathlib import Path

import damaged
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TOKENS = [
    b"", b'"', b'\\"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-1", b"0", b"1e999", b"1" * 400, b"NaN",
    b"F16", b"I64", b"\0", b"\xff", b"\\u0000", b"alpha", b"digest", b'"digest":"', b"fit", b"shape", b"../x",
]  # fmt: skip
FRAGMENTS = st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8), st.integers().map(lambda i: str(i).encode()))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, damaged.Target]:
    folder = tmp_path_factory.mktemp("fuzz")
    return {kind: damaged.make(folder / f"{kind}.impress", kind) for kind in damaged.KINDS}


@pytest.mark.parametrize("kind", damaged.KINDS)
def test_undamaged_files_are_read(targets: dict[str, damaged.Target], kind: str) -> None:
    accepted = [targets[kind].run(seed) for seed in targets[kind].seeds()]
    assert accepted[0]
    assert kind == "manifest" or True in accepted[1:]


@pytest.mark.parametrize("kind", damaged.KINDS)
@settings(max_examples=700)
@given(data=st.data())
def test_a_mutated_file_gives_only_errors_of_this_project(
    targets: dict[str, damaged.Target], kind: str, data: st.DataObject
) -> None:
    """Up to four stretches of a good file replaced, every second time with a checksum made right afterwards."""
    content = data.draw(st.sampled_from(targets[kind].seeds()))
    selector, content = content[:1], content[1:]
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 24))
        content = content[:start] + data.draw(FRAGMENTS) + content[start + length :]
    targets[kind].run(selector + content)


@pytest.mark.parametrize("kind", damaged.KINDS)
@settings(max_examples=175)
@given(content=st.binary(max_size=300))
def test_any_bytes_give_only_errors_of_this_project(
    targets: dict[str, damaged.Target], kind: str, content: bytes
) -> None:
    targets[kind].run(content)


def test_a_seal_over_mutations_is_the_one_that_readers_expect(tmp_path: Path) -> None:
    for kind, file in damaged.FILES.items():
        content = damaged.make(tmp_path / kind, kind).undamaged
        (path,) = (tmp_path / kind).glob(file)
        assert content == path.read_bytes()
        assert damaged.sealed(content, safetensors=kind != "manifest") == content
