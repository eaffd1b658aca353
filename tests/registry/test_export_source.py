"""Exported programs are explained as the modules they were; what is none is refused by name."""

import hashlib
import zipfile

import pytest
import torch
from exported_programs import IMAGES, edit, exported, loaded, rewritten, saved, small
from methods.networks import CLASSES, batched_maps, known
from torch import nn
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed


@pytest.mark.parametrize("name", ["resnet18", "shufflenet"])
def test_a_program_is_explained_as_its_module(tmp_path, name):
    module, truth = known(name).module, known(name).network
    exported(tmp_path, module, torch.zeros(2, 3, 64, 64))
    model = loaded(tmp_path)
    network = model.network
    assert model.card.source == "export"
    assert model.card.labels == [str(index) for index in range(CLASSES)]
    assert [(layer.name, layer.shape) for layer in network.layers] == [
        (layer.name, layer.shape) for layer in truth.layers
    ]
    assert network.cut.layer.name == truth.cut.layer.name
    assert network.cut.head.weight is not None
    for count in (1, 3):
        x = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        frontier, scores = network.predict(x)
        with torch.no_grad():
            expected = module(x)
        assert_close(scores, expected, rtol=1e-5, atol=1e-5)
        for target in range(CLASSES):
            targets = torch.full((count,), target)
            ours = batched_maps("gradcam", network.cut, frontier, targets)
            theirs = batched_maps("gradcam", truth.cut, truth.cut.frontier(x), targets)
            assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))
        assert expected.std() > 1e-3
    every = [
        batched_maps("gradcam", network.cut, frontier.rows([0]), torch.tensor([target])) for target in range(CLASSES)
    ]
    assert any(heatmap.any() for heatmap in every)


def test_labels_are_those_that_are_named(tmp_path):
    saved(tmp_path)
    (tmp_path / "labels.txt").write_text("\n".join("abcdef"))
    assert loaded(tmp_path, (8, 8), labels="labels.txt").card.labels == list("abcdef")
    (tmp_path / "labels.txt").write_text("a\nb")
    with pytest.raises(ModelFailed, match=r"model\.pt2 has 6 classes, labels\.txt 2$"):
        loaded(tmp_path, (8, 8), labels="labels.txt")


def test_another_file_is_another_digest(tmp_path):
    path = saved(tmp_path)
    first = path.read_bytes()
    digest = loaded(tmp_path, (8, 8)).card.digest
    assert loaded(tmp_path, (8, 8)).card.digest == digest
    saved(tmp_path, seed=1)
    assert loaded(tmp_path, (8, 8)).card.digest != digest
    path.write_bytes(first)
    rewritten(path, edit("aten.relu.default", "aten.sigmoid.default"))  # the same weights in another architecture
    assert loaded(tmp_path, (8, 8)).card.digest != digest


def test_a_digest_is_checked_before_the_file_is_read(tmp_path):
    path = saved(tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded(tmp_path, (8, 8), sha256=digest).card.source == "export"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelFailed, match="SHA-256"):
        loaded(tmp_path, (8, 8), sha256=digest)


class Two(nn.Module):
    def forward(self, images, others):
        return (images + others).mean((2, 3))


class Whole(nn.Module):
    def forward(self, images):
        return images.float().mean((2, 3))


UNFIT = {
    "fixed batch": ((small(), IMAGES), False, r"takes exactly 2 images; export it with .*Dim\(\"batch\"\)"),
    "another size": ((small(), torch.zeros(2, 3, 9, 10)), True, "images of 3×9×10, but preprocess makes 3×8×8"),
    "one channel": ((Whole(), torch.zeros(2, 1, 8, 8)), True, "takes 1 channel, but would be given 3"),
    "two inputs": ((Two(), IMAGES, IMAGES), True, r"takes one input, images \(N, 3, H, W\) of float32"),
    "bytes": ((Whole(), IMAGES.to(torch.uint8)), True, r"takes one input, images \(N, 3, H, W\) of float32"),
    "rows": ((nn.Linear(192, 7), torch.zeros(2, 192)), True, r"takes one input, images \(N, 3, H, W\) of float32"),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_a_program_for_something_else_fails_by_name(tmp_path, reason):
    made, dynamic, says = UNFIT[reason]
    exported(tmp_path, *made, dynamic=dynamic)
    with pytest.raises(ModelFailed, match=says) as caught:
        loaded(tmp_path, (8, 8))
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("damage", ["empty", "text", "half", "short", "another zip"])
def test_a_damaged_file_fails_in_one_line(tmp_path, damage):
    path = saved(tmp_path)
    intact = path.read_bytes()
    damaged = {"empty": b"", "text": b"<html>404</html>", "half": intact[: len(intact) // 2], "short": intact[:-1]}
    if damage == "another zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/readme.txt", "hello")
    else:
        path.write_bytes(damaged[damage])
    with pytest.raises(ModelFailed, match=r"model\.pt2 is no archive of torch\.export\.save") as caught:
        loaded(tmp_path, (8, 8))
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("record", ["models/model.json", "model_weights_config.json", "weight_0", "archive_version"])
def test_an_archive_without_one_of_its_parts_fails_in_one_line(tmp_path, record):
    path = rewritten(saved(tmp_path), lambda name, data: None if name.endswith(record) else (name, data))
    with pytest.raises(ModelFailed, match=path.name) as caught:
        loaded(tmp_path, (8, 8))
    assert "\n" not in caught.value.detail


class Several(nn.Module):
    """Answers with a structure: scores, and what else there is."""

    def __init__(self, answer):
        super().__init__()
        self.inner, self.answer = small(), answer

    def forward(self, x):
        features = self.inner[:2](x)
        return self.answer(self.inner[2:](features), features)


@pytest.mark.parametrize(
    ("answer", "more"),
    [
        (lambda scores, features: (scores, features), {}),
        (lambda scores, features: {"features": features, "logits": scores}, {}),
        (lambda scores, features: (features.mean((2, 3)), scores), {"output": 1}),
        (lambda scores, features: {"embedding": features.mean((2, 3)), "species": scores}, {"output": "species"}),
        (lambda scores, features: {"logits": scores}, {}),
        (lambda scores, features: (scores,), {}),
        (lambda scores, features: (scores, None), {}),
        (lambda scores, features: (None, features, scores), {}),
        (lambda scores, features: {"logits": scores, "probabilities": scores}, {}),
    ],
)
def test_the_scores_of_a_program_are_found_among_its_outputs(tmp_path, answer, more):
    exported(tmp_path, Several(answer))
    network, x = loaded(tmp_path, (8, 8), **more).network, torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        assert_close(network.scores(x), small()(x))
        assert_close(network.traced(x), small()(x))  # as methods of the picture ask it
    assert network.cut.head.weight is not None


def test_several_outputs_of_a_program_that_could_be_scores_are_refused_by_name(tmp_path):
    exported(tmp_path, Several(lambda scores, features: {"embedding": features.mean((2, 3)), "species": scores}))
    with pytest.raises(ModelFailed, match=r"embedding \(N, 4\), species \(N, 6\)"):
        loaded(tmp_path, (8, 8))
    with pytest.raises(ModelFailed, match="none is 'genus'"):
        loaded(tmp_path, (8, 8), output="genus")
