"""Task and class of images in a bank over pretrained weights: one forward, all heads, 64 bytes more a task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_bank
import torch
from small_bank import alpha_type

from impress_format import open_bank
from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_format.operations.pack import pack_tasks
from impress_format.parts.feature_signature import restore_feature_signatures
from impress_format.parts.head import HEAD as HEAD_PART
from impress_learn import load_bank
from impress_learn.features.features import features
from impress_learn.identify.candidates import Candidates
from impress_learn.identify.discovery import Discovery
from impress_learn.identify.found import find_candidates
from impress_learn.identify.methods import infer_groups
from impress_learn.jobs import add_tasks, create_bank
from impress_learn.jobs.discover import discover_tasks, share_right
from impress_learn.jobs.identify import evaluate_gn
from impress_learn.jobs.infer import infer
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Network
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference
from impress_learn.training.config import MaskTraining, TaskTraining

CPU = torch.device("cpu")
FIT = TaskTraining(epochs=8)
TASKS = ("rotated-digits/30", "rotated-digits/180", "rotated-digits/240", "permuted-digits/1")


@pytest.fixture
def bank(bank_for_heads: Bank) -> Bank:
    """With four tasks of ten classes."""
    add_tasks(bank_for_heads.path, list(TASKS), fit=FIT)
    return open_bank(bank_for_heads.path)


def images_of(bank: Bank, task: str, count: int) -> torch.Tensor:
    """Test images as the bank wants them, normalised."""
    data = load_task(parse_reference(task), data_dir=Path("nowhere"), view=bank.manifest.preprocess)
    return data.test.batch(slice(count))[0]


@pytest.mark.parametrize("packed", [False, True])
def test_evidence_is_what_a_heads_logits_and_a_linear_form_of_features_say(bank: Bank, packed: bool) -> None:
    if packed:
        pack_tasks(bank)
    opened = open_bank(bank.path)
    loaded = load_bank(opened, CPU)
    candidates = Candidates(loaded, find_candidates(opened))
    images = images_of(bank, TASKS[0], 6)
    scores = infer_groups(candidates, "auto", images.view(3, 2, *images.shape[1:])).scores
    projection = loaded.projection
    with torch.no_grad():
        projected = (features(loaded.adapted, loaded.adapted.weights, images) - projection.mean) @ projection.directions
    for place, candidate in enumerate(candidates.tasks):
        logits = loaded.logits(loaded.task_weights(candidate.name), images).double().numpy()
        signature = small_bank.signature_of(opened, candidate.name)
        assert signature is not None
        form = restore_feature_signatures(np.frombuffer(signature, dtype=np.uint8)[np.newaxis], projection.dimensions)
        linear = projected.numpy()[:, : form.weight.shape[1]] @ form.weight[0] + form.bias[0]
        expected = np.log(np.exp(logits).sum(1)) + linear
        np.testing.assert_allclose(scores[:, place], expected.reshape(3, 2).sum(1), rtol=2e-3, atol=0.05)


def test_one_image_says_which_task_and_class_and_a_few_say_it_surely(bank: Bank) -> None:
    one, four = (evaluate_gn(bank.path, samples=samples, groups=100) for samples in (1, 4))
    assert {result.method for result in one} == {"signature"}
    assert np.mean([result.task_accuracy for result in one]) > 0.8  # by chance 0.25
    assert np.mean([result.task_accuracy for result in four]) > 0.95
    for results in (one, four):
        said = np.mean([result.probability for result in results if result.probability is not None])
        assert abs(said - np.mean([result.task_accuracy for result in results])) < 0.12
    for result in one:
        assert result.both <= min(result.accuracy, result.known, result.task_accuracy) + 1e-9
        assert result.both > result.known - 0.2  # of forty classes, where chance is 0.025
        assert result.unknown < 0.15


def test_photos_are_told_apart_by_task_and_class(bank: Bank, tmp_path: Path) -> None:
    """Of a task of two classes beside those of ten."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for label, color in enumerate(((200, 40, 40), (40, 40, 200))):
        (tmp_path / "photos" / str(label)).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(generator.normal(color, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / str(label) / f"{number}.png")
    add_tasks(bank.path, [f"folder:{tmp_path / 'photos'}"], fit=FIT, name="colours")
    answers = infer(bank.path, [tmp_path / "photos"]).answers
    right = [
        answer.nearest.startswith("folder:") and answer.label == Path(answer.path).parent.name for answer in answers
    ]
    assert np.mean(right) > 0.9


def test_a_stream_opens_tasks_with_heads_and_knows_those_there_are(bank: Bank) -> None:
    found = discover_tasks(
        bank.path, [TASKS[1], "rotated-digits/130", TASKS[0]], discovery=Discovery(chunk=64, images=192), fit=FIT
    )
    assert share_right(found) == 1.0
    assert {one.task: one.new for one in found} == {TASKS[1]: False, "rotated-digits/130": True, TASKS[0]: False}
    stored = open_bank(bank.path).read_stored("discovered-1")
    assert HEAD_PART.of(stored) is not None
    assert (alpha_type(stored), small_bank.signature_of(open_bank(bank.path), "discovered-1") is not None) == (
        None,
        True,
    )


def test_tasks_without_heads_are_known_by_features_too(pretrained: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPRESS_WEIGHTS", str(pretrained / "kept"))
        bank = create_bank(
            tmp_path / "b.impress",
            ["rotated-digits/0", "permuted-digits/2"],
            network=Network(
                backbone="timm:test_resnet", weights=str(pretrained / "weights.safetensors"), image_size=32
            ),
            fit=MaskTraining(epochs=1),
        )
        assert (bank.signature_kind, bank.manifest.recogniser) == ("features", False)
        add_tasks(bank.path, ["permuted-digits/3"], fit=TaskTraining(epochs=1), parts=Parts(alpha=True))
        add_tasks(bank.path, ["rotated-digits/90"], fit=FIT)
        results = evaluate_gn(bank.path, samples=16, groups=10)
        assert {result.name for result in results} == {"permuted-digits-3", "rotated-digits-90", "mask 0", "mask 1"}
        assert np.mean([result.task_accuracy for result in results]) > 0.9
        with pytest.raises(BankMismatch, match="cannot be mixed"):
            evaluate_gn(bank.path, method="one-shot")
