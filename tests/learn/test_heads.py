"""Tasks over pretrained weights: what a head learns, what is stored of it, what every command makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import small_bank
import timm
import torch

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.bank_files.projection import PROJECTION
from impress_format.errors import BankMismatch, TaskExists, UsageError
from impress_format.operations.pack import pack_tasks
from impress_format.parts.head import HEAD as HEAD_PART
from impress_format.parts.head import restore_head, whole_dimensions
from impress_format.parts.residual import residual_layers
from impress_learn import load_bank
from impress_learn.features.features import features, features_of
from impress_learn.features.projected import projected_features
from impress_learn.features.projection import Projection, make_projection
from impress_learn.features.trainable_suffix import cache_activations, cut_off
from impress_learn.jobs import add_tasks, create_bank, evaluate, update_task
from impress_learn.jobs.convert_weights import convert_weights
from impress_learn.jobs.export import export_weights
from impress_learn.jobs.infer import infer
from impress_learn.masks.quantise import rounded
from impress_learn.network.build import build_backbone
from impress_learn.network.weights_file import Weights
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks, Network
from impress_learn.running.accuracy import accuracy
from impress_learn.streams.images import ImagesInMemory
from impress_learn.streams.reference import parse_reference
from impress_learn.tasks.head.fit import Head, discriminant, store
from impress_learn.training.config import MaskTraining, TaskTraining
from impress_learn.training.loop import Rows

CPU = torch.device("cpu")
FIT = TaskTraining(epochs=8)


@pytest.fixture
def bank(bank_for_heads: Bank) -> Bank:
    return bank_for_heads


def some_projection(width: int = 6, dimensions: int = 4) -> Projection:
    generator = torch.Generator().manual_seed(0)
    return Projection(
        digest="0" * 32,
        mean=torch.randn(width, generator=generator),
        directions=torch.randn(width, dimensions, generator=generator),
        within=torch.diag(torch.tensor([1.0, 0.5, 0.25, 0.125])[:dimensions]),
        between=torch.eye(dimensions),
    )


def test_a_projection_turns_features_to_their_principal_directions() -> None:
    generator = np.random.default_rng(0)
    spread = generator.normal(size=(7, 7)) * np.array([5, 3, 2, 1, 0.5, 0.2, 0.1])
    classes = generator.integers(0, 9, 4000)
    rows = generator.normal(size=(4000, 7)) @ spread.T + 0.5 * generator.normal(size=(9, 7))[classes] + 2
    stored = make_projection(torch.from_numpy(rows).float(), torch.from_numpy(classes))
    projected = (rows - stored.mean.astype(float)) @ stored.directions
    covariance = projected.T @ projected / len(projected)
    values = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1]
    np.testing.assert_allclose(np.diag(covariance), 9 * values / values[0], rtol=0.03, atol=1e-3)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.1  # int8 turns them a little
    means = np.stack([projected[classes == one].mean(0) for one in range(9)])
    apart = projected - means[classes]
    np.testing.assert_allclose(stored.within, apart.T @ apart / len(apart), atol=1e-3)
    np.testing.assert_allclose(stored.between, means.T @ means / 9, atol=1e-3)


def test_a_head_over_the_projection_is_a_linear_classifier_of_features() -> None:
    projection = some_projection()
    generator = torch.Generator().manual_seed(1)
    features, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((9, 6), (5, 3), (5,)))
    rows, shift = projection.classifier(weight, bias)
    expected = projection.project(features)[:, :3] @ weight.T + bias
    torch.testing.assert_close(features @ rows.T + shift, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_what_is_stored_is_what_was_rounded_in_training(bits: int) -> None:
    head = Head(torch.randn(5, 12, generator=torch.Generator().manual_seed(bits)), torch.linspace(-1, 1, 5))
    restored = restore_head(store(head, bits), bits, 5, 12)  # type: ignore[arg-type]
    torch.testing.assert_close(torch.from_numpy(restored.weight), rounded(head.weight, bits), rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(restored.bias), head.bias, rtol=1e-3, atol=1e-3)


def test_the_discriminant_is_that_of_the_textbook() -> None:
    """Of many images a class, the posterior mean is the mean; what remains is Sigma^-1 mu and -mu Sigma^-1 mu / 2."""
    projection = some_projection()
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(3).repeat(20_000)
    means = torch.randn(3, 4, generator=generator)
    values = means[labels] + torch.randn(len(labels), 4, generator=generator) * projection.within.diagonal().sqrt()
    head = discriminant(Rows(values, labels), projection, 3)
    regular = np.diag(projection.within.diagonal().numpy() + 0.1 * projection.within.diagonal().mean().item())
    weight = np.linalg.solve(regular, means.numpy().T).T
    bias = -0.5 * (weight * means.numpy()).sum(1)
    np.testing.assert_allclose(head.weight.numpy(), weight - weight.mean(0), atol=0.1)
    np.testing.assert_allclose(head.bias.numpy(), bias - bias.mean(), atol=0.1)


def test_from_few_images_what_the_bank_knows_of_classes_helps() -> None:
    """Two directions tell classes apart, of many that only spread; the bank's covariances say which."""
    width, classes, images = 24, 4, 2
    generator = torch.Generator().manual_seed(3)
    within, between = torch.eye(width), 1e-3 * torch.eye(width)
    between[:2, :2] = 3 * torch.eye(2)
    knowing = Projection("0", torch.zeros(width), torch.eye(width), within, between)
    ignorant = replace(knowing, between=between.diagonal().mean() * torch.eye(width))
    shares = {}
    for name, projection in (("knowing", knowing), ("ignorant", ignorant)):
        right = []
        for _ in range(10):
            means = torch.randn(classes, width, generator=generator) @ between.sqrt()
            train, test = (
                Rows(means[labels] + torch.randn(len(labels), width, generator=generator), labels)
                for labels in (torch.arange(classes).repeat(images), torch.arange(classes).repeat(250))
            )
            head = discriminant(train, projection, classes)
            right.append((head.logits(test.values, 8).argmax(1) == test.labels).float().mean().item())
        shares[name] = sum(right) / len(right)
    assert shares["knowing"] > shares["ignorant"] + 0.05


def test_a_task_is_learned_stored_and_answered_from_its_file(bank: Bank) -> None:
    (added,) = add_tasks(bank.path, ["rotated-digits/30"], fit=FIT)
    assert (added.facts["coefficients"], added.facts["residual"]) == (0, 0)
    assert added.facts["head"] == min(128, bank.directions)  # fewer than 128 features vary here
    assert added.accuracy > 0.6
    loaded = load_bank(open_bank(bank.path), CPU)
    test = loaded.task_data(parse_reference("rotated-digits/30"), data_dir=None).test
    through_the_network = accuracy(loaded.backbone, loaded.task_weights(added.name), test)
    assert through_the_network == pytest.approx(added.accuracy, abs=1.5 / len(test))  # features are rounded to float16
    (measured,) = evaluate(bank.path)
    assert measured.accuracy == through_the_network
    assert verify_bank(bank.path).ok
    assert add_tasks(bank.path, ["rotated-digits/30"], fit=FIT)[0].seconds == 0
    with pytest.raises(TaskExists):
        add_tasks(bank.path, ["rotated-digits/30"], fit=FIT, parts=Parts(head=8))


def test_more_dimensions_and_bits_tell_more(bank: Bank) -> None:
    add_tasks(bank.path, ["rotated-digits/30"], fit=FIT, parts=Parts(head=2, head_bits=1), name="small")
    add_tasks(bank.path, ["rotated-digits/30"], fit=FIT, parts=Parts(head=32, head_bits=4), name="large")
    small, large = (open_bank(bank.path).summarise_task(name) for name in ("small", "large"))
    assert (small.facts["head"], large.facts["head"]) == (2, 32)
    assert (large.accuracy or 0) > (small.accuracy or 1) + 0.2


def test_a_packed_head_costs_its_bytes_and_few_more(bank: Bank) -> None:
    references = [f"rotated-digits/{angle}" for angle in range(10, 60, 10)]
    add_tasks(bank.path, references, fit=FIT, parts=Parts(head=16, signature=False))
    pack_tasks(bank)
    opened = open_bank(bank.path)
    assert max(task.bytes for task in opened.summarise_tasks()) <= 10 * (16 * 2 // 8 + 4) + 75
    assert [task.facts["head"] for task in opened.summarise_tasks()] == [16] * 5


@pytest.mark.parametrize(
    ("arch", "side", "traced"),
    [
        ("test_resnet", 64, True),
        ("test_efficientnet", 64, True),
        ("test_convnext", 64, True),
        ("vit_tiny_patch16_224", 224, True),
        ("test_vit", 160, False),  # asks what its input is like, which fx cannot follow
    ],
)
def test_the_tail_of_a_network_goes_on_from_where_it_was_cut(arch: str, side: int, traced: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = Weights("file:none", None, timm.create_model(arch, pretrained=False).state_dict())
    shape = (3, side, side)
    backbone = build_backbone(
        f"timm:{arch}", init="signed-constant", seed=0, input_shape=shape, classes=4, weights=weights
    )
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    for last in (1, 3, len(backbone.spec.masked_layers) - 1):
        layers = [layer.name for layer in residual_layers(backbone.spec, last)]
        suffix = cut_off(backbone, layers)
        changed = {name: backbone.weights[name] * 1.5 for name in layers}
        with torch.no_grad():
            activations = suffix.prefix(images)
            found, expected = (
                suffix.features(changed, activations),
                features(backbone, {**backbone.weights, **changed}, images),
            )
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
            assert not torch.equal(found, features(backbone, backbone.weights, images))
        assert last > 1 or traced == (activations.shape != images.shape)


def test_what_a_tail_takes_is_kept_of_augmented_copies_too_or_made_anew(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_bank(bank, CPU)
    images = loaded.task_data(parse_reference("rotated-digits/30"), data_dir=None).train.subset(torch.arange(20))
    images = images.varied(lambda pixels, _: pixels.flip(3))
    suffix = cut_off(loaded.backbone, [bank.backbone.masked_layers[-2].name])
    activations = cache_activations(suffix, images, augmented=1, seed=5)
    assert activations.kept is not None
    plain, weight_delta = activations.kept.unbind(1)
    with torch.no_grad():
        torch.testing.assert_close(plain, suffix.prefix(images.batch(slice(None))[0]), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain, weight_delta, atol=1e-2)
    mixed, _ = activations.batch(torch.arange(20), torch.Generator().manual_seed(0))
    taken = [(torch.equal(one, a), torch.equal(one, b)) for one, a, b in zip(mixed, plain, weight_delta, strict=True)]
    assert {(True, False), (False, True)} == set(taken)
    monkeypatch.setattr("impress_learn.features.trainable_suffix.MOST_BYTES", 10)
    anew = cache_activations(suffix, images, augmented=1)
    assert anew.kept is None
    torch.testing.assert_close(anew.batch(slice(None))[0], plain, rtol=1e-4, atol=1e-4)


def test_a_residual_beside_a_head_is_stored_and_answers_alike(bank: Bank) -> None:
    fit = TaskTraining(epochs=30)
    (alone,) = add_tasks(bank.path, ["rotated-digits/30"], fit=fit, parts=Parts(head=8))
    (both,) = add_tasks(
        bank.path, ["rotated-digits/30"], fit=fit, parts=Parts(head=8, residual=8000, residual_layers=5), name="both"
    )
    assert (both.facts["head"], both.facts["residual"], both.facts["coefficients"]) == (8, 8000, 0)
    assert both.accuracy > alone.accuracy + 0.03
    record = open_bank(bank.path).read_task_record("both")
    assert (record.settings.residual.layers, record.settings.head.bits, record.settings.residual.bits) == (5, 2, 1)
    (measured,) = evaluate(bank.path, ["both"])
    assert measured.accuracy == pytest.approx(both.accuracy, abs=1.5 / 360)
    assert verify_bank(bank.path).ok
    exported = export_weights(bank.path, "both", bank.path.parent / "out.safetensors")
    there: dict[str, Any] = {}
    exec(exported.load, there)
    loaded = load_bank(bank, CPU)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = loaded.logits(loaded.task_weights("both"), images)
        torch.testing.assert_close(there["net"](images), expected, rtol=1e-4, atol=1e-4)
    updated = update_task(bank.path, "both", "rotated-digits/40", fit=TaskTraining(epochs=2, lr=0.003))
    assert updated.facts["residual"] == 8000


def test_an_update_begins_from_the_head_there_is(bank: Bank) -> None:
    add_tasks(bank.path, ["rotated-digits/30"], fit=FIT)
    before = open_bank(bank.path).read_stored("rotated-digits-30")
    updated = update_task(bank.path, "rotated-digits-30", "rotated-digits/40", fit=TaskTraining(epochs=2, lr=0.003))
    after = open_bank(bank.path).read_stored("rotated-digits-30")
    assert HEAD_PART.of(before) is not None
    assert HEAD_PART.of(after) is not None
    assert updated.task == "rotated-digits/40"
    old, new = (small_bank.part(HEAD_PART, stored).weight for stored in (before, after))
    angle = np.vdot(old, new) / (np.linalg.norm(old) * np.linalg.norm(new))
    assert 0.8 < angle < 1.0


def test_a_head_goes_on_from_one_of_its_shape_alone(bank: Bank) -> None:
    add_tasks(bank.path, ["rotated-digits/30"], fit=FIT, parts=Parts(head=16), name="from")
    (warm,) = add_tasks(
        bank.path,
        ["rotated-digits/40"],
        fit=TaskTraining(shots=2),
        parts=Parts(head=16),
        warm_start="from",
        name="warm",
    )
    (cold,) = add_tasks(bank.path, ["rotated-digits/40"], fit=TaskTraining(shots=2), parts=Parts(head=16), name="cold")
    assert warm.accuracy > cold.accuracy
    with pytest.raises(UsageError, match="no head of 8 dimensions for 10 classes"):
        add_tasks(bank.path, ["rotated-digits/50"], parts=Parts(head=8), warm_start="from")
    with pytest.raises(UsageError, match="from has 10 classes, split-cifar100/0 has 5"):
        update_task(bank.path, "from", "split-cifar100/0")


def test_classes_of_ones_own_photos_are_told_by_a_head(bank: Bank, tmp_path: Path) -> None:
    from PIL import Image

    from impress_learn.streams.digits import DIGITS

    train, _ = DIGITS.load(None, None, None)  # type: ignore[arg-type]
    folder = tmp_path / "photos"
    for label in range(3):
        rows = torch.nonzero(train.labels == label).flatten()[:30]
        (folder / f"number {label}").mkdir(parents=True)
        for row in rows.tolist():
            pixels = train.pixels_of(torch.tensor([row]))[0, 0].numpy()
            Image.fromarray(pixels).resize((32, 32)).save(folder / f"number {label}" / f"{row}.png")
    (added,) = add_tasks(bank.path, [f"folder:{folder}"], fit=FIT, name="mine")
    stored = open_bank(bank.path).read_stored("mine")
    assert HEAD_PART.of(stored) is not None
    assert small_bank.part(HEAD_PART, stored).weight.shape[0] == 3  # of ten that the bank's network has
    assert stored.record.settings.classes.count == 3
    assert added.accuracy > 0.5
    one = next((folder / "number 1").iterdir())
    (answer,) = infer(bank.path, [one], task="mine").answers
    assert answer.label == "number 1"
    exported = export_weights(bank.path, "mine", tmp_path / "out.safetensors")
    there: dict[str, Any] = {}
    folder.rename(tmp_path / "elsewhere")  # the task knows what its classes are called
    exec(exported.load, there)
    loaded = load_bank(bank, CPU)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = loaded.logits(loaded.task_weights("mine"), images)
        torch.testing.assert_close(there["net"](images), expected, rtol=1e-4, atol=1e-4)
    assert expected.shape == (4, 3)
    (again,) = infer(bank.path, [tmp_path / "elsewhere" / "number 1" / one.name], task="mine").answers
    assert again.label == "number 1"
    add_tasks(bank.path, ["rotated-digits/30"], fit=FIT)  # ten classes: three are told apart from them
    assert {one.nearest for one in infer(bank.path, [tmp_path / "elsewhere"], method="exhaustive").answers} <= {
        "rotated-digits/30",
        f"folder:{folder}",
    }


def test_a_network_is_moved_towards_the_banks_tasks_for_heads_of_others(
    pretrained: Path, tmp_path: Path, reader: ModuleType
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPRESS_WEIGHTS", str(pretrained / "kept"))
        patch.setattr(
            "impress_learn.features.adaptation.RATE", 1e-3
        )  # this network is not trained: there is nothing to lose

        def create(path: Path, adapt: int, holdout: float = 0.1) -> Bank:
            return create_bank(
                path,
                ["rotated-digits/0", "rotated-digits/45"],
                network=Network(
                    backbone="timm:test_resnet",
                    weights=str(pretrained / "weights.safetensors"),
                    image_size=32,
                    adapt=adapt,
                ),
                masks=Masks(masks_per_task=0),
                fit=MaskTraining(holdout=holdout),
            )

        bank = create(tmp_path / "b.impress", 15)
        record, _ = bank.files.read(PROJECTION)
        assert (record.epochs, record.holdout, record.tasks) == (15, 0.1, ("rotated-digits/0", "rotated-digits/45"))
        assert record.bits == 4
        assert verify_bank(bank.path).ok
        (weight_delta,) = add_tasks(bank.path, ["rotated-digits/30"], fit=FIT, parts=Parts(head=32))
        create(tmp_path / "a.impress", 0)
        (alone,) = add_tasks(tmp_path / "a.impress", ["rotated-digits/30"], fit=FIT, parts=Parts(head=32))
        assert weight_delta.accuracy > alone.accuracy + 0.03
        (measured,) = evaluate(bank.path)
        assert measured.accuracy == pytest.approx(weight_delta.accuracy, abs=1.5 / 500)
        loaded = load_bank(bank, CPU)
        originals = {layer.name: loaded.backbone.weights[layer.name].numpy() for layer in bank.backbone.masked_layers}
        for name, weight in reader.adapted(bank.path, originals).items():  # docs/read_bank.py
            np.testing.assert_allclose(weight, loaded.adapted.weights[name].numpy(), rtol=1e-6)
        images = torch.randn(5, *bank.backbone.input_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            seen = features(loaded.adapted, loaded.adapted.weights, images).numpy()
        expected = loaded.logits(loaded.task_weights(weight_delta.name), images).numpy()
        np.testing.assert_allclose(reader.logits(bank.path, weight_delta.name, seen), expected, rtol=1e-3, atol=1e-3)
        changed = [
            name
            for name, weight in loaded.adapted.weights.items()
            if not torch.equal(weight, loaded.backbone.weights[name])
        ]
        assert changed  # not all: untrained, this network's residual branches are shut by norms of weight 0
        assert set(changed) <= {layer.name for layer in bank.backbone.adapted_layers(record.layers)}
        add_tasks(bank.path, ["rotated-digits/60"], fit=FIT, parts=Parts(head=8, residual=800), name="both")
        both = next(one for one in evaluate(bank.path) if one.name == "both")
        assert both.accuracy == pytest.approx(open_bank(bank.path).summarise_task("both").accuracy, abs=1.5 / 500)

        before = bank.files.path(PROJECTION).read_bytes()
        create(bank.path, 15)
        assert bank.files.path(PROJECTION).read_bytes() == before
        with pytest.raises(UsageError, match="`adapt` 15"):
            create(bank.path, 3)
        with pytest.raises(UsageError, match="give `weights`"):
            create_bank(tmp_path / "d.impress", ["rotated-digits/0"], network=Network(adapt=3))


def test_what_heads_stand_on_does_not_give_way_to_other_settings(bank: Bank, pretrained: Path, tmp_path: Path) -> None:
    before = bank.files.path(PROJECTION).read_bytes()
    weights = str(pretrained / "weights.safetensors")
    network = Network(backbone="timm:test_resnet", weights=weights, image_size=32)
    settings: dict[str, Any] = {"masks": Masks(masks_per_task=0), "fit": MaskTraining(holdout=0.1)}
    references = ["rotated-digits/0", "rotated-digits/90"]
    with pytest.raises(BankMismatch, match="input_shape"):
        create_bank(bank.path, references, network=replace(network, image_size=40), **settings)
    with pytest.raises(UsageError, match="exists with other settings: heads of its tasks"):
        create_bank(bank.path, ["rotated-digits/0", "rotated-digits/45"], network=network, **settings)
    assert bank.files.path(PROJECTION).read_bytes() == before
    # Given again, with weights that say more of themselves, it is the same bank.
    said = tmp_path / "again.safetensors"
    convert_weights(pretrained / "weights.safetensors", said, origin="https://example.org")
    create_bank(bank.path, references, network=replace(network, weights=str(said)), **settings)
    assert bank.files.path(PROJECTION).read_bytes() == before


def test_held_out_images_are_held_out_from_what_moved_the_network_too(bank: Bank) -> None:
    with pytest.raises(UsageError, match="the projection of rotated-digits/0 was trained on these images"):
        add_tasks(bank.path, ["rotated-digits/90"], fit=replace(FIT, holdout=0.2))
    (added,) = add_tasks(bank.path, ["rotated-digits/90"], fit=replace(FIT, holdout=0.1))
    assert added.images == "held-out"


def test_features_are_kept_and_found_again(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_bank(bank, CPU)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (9, 3, 32, 32), generator=generator).to(torch.uint8)
    images = ImagesInMemory(pixels, torch.zeros(9, dtype=torch.int64), (0.5,) * 3, (0.25,) * 3)
    first = projected_features(loaded.backbone, loaded.projection, images)
    expected = loaded.projection.project(features_of(loaded.backbone, images))
    torch.testing.assert_close(first, expected, rtol=2e-3, atol=2e-3)
    changed = replace(images, pixels=torch.cat([pixels[:-1], pixels[:1]]))
    weight_delta = projected_features(loaded.backbone, loaded.projection, changed)
    torch.testing.assert_close(weight_delta[-1], first[0], rtol=1e-3, atol=2e-3)
    monkeypatch.setattr("impress_learn.features.projected.features_of", lambda *_: pytest.fail("computed again"))
    assert torch.equal(projected_features(loaded.backbone, loaded.projection, images), first)


@pytest.mark.parametrize("size", [300, 420, 500, 700])
def test_a_budget_buys_a_head_first_and_then_a_residual(bank: Bank, size: int) -> None:
    (added,) = add_tasks(
        bank.path, ["rotated-digits/30"], parts=Parts(signature=False, bytes=size), fit=TaskTraining(epochs=1)
    )
    assert size - 16 <= added.bytes <= size
    assert added.facts["coefficients"] == 0
    most = min(128, bank.files.read(PROJECTION)[1].dimensions)
    assert (
        (added.facts["head"], added.facts["residual"] > 0) == (most, True)
        if size == 700
        else (0 < added.facts["head"] <= most)
    )
    assert not (added.facts["residual"] and added.facts["head"] < most)


def test_a_budget_for_few_images_is_a_head_alone(bank: Bank) -> None:
    (added,) = add_tasks(
        bank.path, ["rotated-digits/30"], parts=Parts(signature=False, bytes=2000), fit=TaskTraining(epochs=1, shots=4)
    )
    assert added.facts["residual"] == 0
    assert added.facts["head"] == whole_dimensions(10, bank.files.read(PROJECTION)[1].dimensions, 2)


def test_a_budget_that_holds_no_head_says_what_would(bank: Bank) -> None:
    with pytest.raises(UsageError, match=r"the smallest task of rotated-digits/30 in \S+ takes \d+"):
        add_tasks(bank.path, ["rotated-digits/30"], parts=Parts(signature=False, bytes=100))
    with pytest.raises(UsageError, match="chooses the parts"):
        add_tasks(bank.path, ["rotated-digits/30"], parts=Parts(head=8, bytes=500))


def test_what_does_not_fit_is_refused_before_anything_is_learned(bank: Bank, tmp_path: Path) -> None:
    most = bank.files.read(PROJECTION)[1].dimensions
    with pytest.raises(UsageError, match=f"at most {most} dimensions"):
        add_tasks(bank.path, ["rotated-digits/30"], parts=Parts(head=most + 1))
    with pytest.raises(UsageError, match="neither `alpha` nor `hybrid`"):
        add_tasks(bank.path, ["rotated-digits/30"], parts=Parts(head=8, alpha=True))
    with pytest.raises(BankMismatch, match="no mask"):
        add_tasks(bank.path, ["rotated-digits/30"], parts=Parts(head=0))
    create_bank(tmp_path / "b.impress", ["rotated-digits/0"], masks=Masks(masks_per_task=0, random_masks=1))
    with pytest.raises(BankMismatch, match="no projection"):
        add_tasks(tmp_path / "b.impress", ["rotated-digits/30"], parts=Parts(head=8))
    assert not open_bank(bank.path).task_names()
