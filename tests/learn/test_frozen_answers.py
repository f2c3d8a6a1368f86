"""The golden banks of 0.1.0 answer as they did, and their packets become the tasks that they were sent from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from impress_format import open_bank
from impress_format.errors import FormatError
from impress_learn.jobs.packets import Told, import_tasks

RELEASE = Path(__file__).parents[1] / "golden" / "0.1.0"


@pytest.fixture(scope="module", autouse=True)
def weights(golden_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the bank of photos stands on, where banks look for it."""
    folder = tmp_path_factory.mktemp("golden")
    golden_maker.add_weights(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPRESS_WEIGHTS", str(folder / "kept"))
        yield


def expected(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RELEASE / f"{name}.json").read_text())
    return content


@pytest.mark.parametrize("name", ["lenet", "lenet-packed", "resnet", "resnet-packed", "photos", "photos-packed"])
def test_every_task_gives_the_logits_that_it_gave(name: str, golden_maker: ModuleType) -> None:
    before = expected("logits")[name.removesuffix("-packed")]
    for task, logits in golden_maker.logits_of(RELEASE / f"{name}.impress").items():
        scale = np.abs(before[task]).max()
        np.testing.assert_allclose(logits, before[task], rtol=0, atol=1e-3 * scale, err_msg=task)


def test_the_reader_of_the_docs_gives_them_too(reader: ModuleType, golden_maker: ModuleType) -> None:
    images = (2 * golden_maker.words("images", 2 * 784).reshape(2, 784) - 1).astype(np.float32)
    for name in ("lenet", "lenet-packed"):
        for task in open_bank(RELEASE / f"{name}.impress").task_names():
            logits = reader.logits(RELEASE / f"{name}.impress", task, images)
            np.testing.assert_allclose(logits, expected("logits")["lenet"][task], atol=1e-4, err_msg=task)


def test_packets_become_the_tasks_that_they_were_sent_from(golden_maker: ModuleType, tmp_path: Path) -> None:
    for bank, task in golden_maker.PACKETS:
        sent = open_bank(RELEASE / f"{bank}.impress")
        path = Path(shutil.copytree(sent.path, tmp_path / task / "a.impress"))
        shutil.rmtree(path / "tasks")
        (path / "tasks").mkdir()
        file = tmp_path / f"{task}.packet"
        file.write_bytes(bytes.fromhex(expected("packets")[task][0]))
        names = golden_maker.names_of_classes(sent)(sent.read_task_record(task))
        import_tasks(path, [file], told=Told(class_names=tuple(names)))
        arrived = open_bank(path).read_stored(task)
        parts = {part: golden_maker.told(value) for part, value in sorted(arrived.values.items())}
        assert parts == expected(bank)["tasks"][task]["parts"]
        with pytest.raises(FormatError):
            import_tasks(path, [file], name="other", told=Told(class_names=(*names[1:], names[0])))
