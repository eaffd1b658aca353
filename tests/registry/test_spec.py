"""What operators write: model.yaml."""

import pytest

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.spec import Preprocess

SPEC = "source: torchvision\narchitecture: resnet18\nweights: random:0\n"
NORMAL = "mean: [0, 0, 0], std: [1, 1, 1]"


def parsed(folder, text):
    (folder / "model.yaml").write_text(text)
    return Entry("mine", "1", LocalPlace(folder)).spec()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("color: red", ["color:", "not permitted"]),
        ("batchsize: 4", ["batchsize:", "did you mean 'batch'?", "there are", "labels"]),
        ("mean: [0, 0, 0]", ["mean:", "did you mean 'preprocess.mean'?"]),
        ("channels: gray", ["channels:", "did you mean 'input.channels'?"]),
        ("input: {chanels: gray}", ["input.chanels:", "did you mean 'channels'?", "kind, channels, depth"]),
        ("sample: {image: a.png, lable: 3}", ["sample.lable:", "did you mean 'label'?"]),
        ("label: [tabby]", ["label:", "did you mean 'labels'?"]),
        ("activation: softmx", ["activation:", "did you mean 'softmax'?"]),
        ("source: keras", ["source:", "'torchvision'", "'zoo'"]),
        ("source: touchvision", ["source:", "did you mean 'torchvision'?"]),
        ("runtime: onnx_runtime", ["runtime:", "did you mean 'onnxruntime'?", "'auto'", "'eager'", "'cuda_graphs'"]),
        ("description: [a, b]", ["description:", "string"]),
        ("options: [depth]", ["options:", "dictionary"]),
        ("activation: relu", ["activation:", "'softmax'", "'sigmoid'"]),
        ("load: never", ["load:", "'start'", "'demand'"]),
        ("task: detection", ["task:", "'classification'"]),
        ("batch: many", ["batch:", "integer"]),
        ("batch: 0", ["batch:", "greater than or equal to 1"]),
        ("batch: 9999", ["batch:", "less than or equal to 1024"]),
        ("layer: 4", ["layer:", "string"]),
        ("labels: [a, {b: c}]", ["labels:", "text"]),
        ("labels: []", ["labels:", "not empty"]),
        ("labels: 4", ["labels:", "a list"]),
        ("sha256: abc", ["sha256:", "[0-9a-f]{64}"]),
        (f"preprocess: {{pad: 8, colour: 1, {NORMAL}}}", ["preprocess.colour:"]),
        (f"preprocess: {{pad: 8, interpolaton: bicubic, {NORMAL}}}", ["did you mean 'interpolation'?", "mean, std"]),
        ("preprocess: {pad: 8, mean: [0, 0, 0]}", ["preprocess.std:", "required"]),
        ("preprocess: {pad: 8, mean: [0, 0], std: [1, 1, 1]}", ["preprocess.mean"]),
        (
            f"preprocess: {{pad: 8, interpolation: cubic, {NORMAL}}}",
            ["preprocess.interpolation:", "'nearest'", "'bilinear'", "'bicubic'", "'lanczos'"],
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_file_and_what_is_allowed(tmp_path, line, says):
    field = line.partition(":")[0]
    kept = [own for own in SPEC.splitlines() if not own.startswith(field)]
    with pytest.raises(ModelFailed) as caught:
        parsed(tmp_path, "\n".join([*kept, line]))
    for part in [str(tmp_path / "model.yaml"), *says]:
        assert part in caught.value.detail
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("source", "source: Field required"),
        ("architecture", "source torchvision needs an architecture"),
        ("weights", "source torchvision needs weights"),
    ],
)
def test_a_missing_field_is_named(tmp_path, field, says):
    with pytest.raises(ModelFailed, match=says):
        parsed(tmp_path, "\n".join(line for line in SPEC.splitlines() if not line.startswith(field)))


@pytest.mark.parametrize(
    "geometry",
    [
        "",
        "resize: 256",
        "crop: 224",
        "resize: [8, 8], pad: 8",
        "resize: 8, crop: 8, pad: 8",
        "pad: 8, crop: 4",
        "pad: 8, resize: 8",
    ],
)
def test_geometry_that_says_too_little_or_two_things_at_once_is_refused(tmp_path, geometry):
    fields = ", ".join(filter(None, [geometry, NORMAL]))
    with pytest.raises(ModelFailed, match=r"preprocess: .*resize and crop; resize: \[h, w\]; pad"):
        parsed(tmp_path, f"{SPEC}preprocess: {{{fields}}}")


@pytest.mark.parametrize(
    "fields",
    [
        f"pad: 0, {NORMAL}",
        f"pad: -8, {NORMAL}",
        f"resize: 0, crop: 8, {NORMAL}",
        f"resize: 8, crop: 0, {NORMAL}",
        f"resize: [0, 8], {NORMAL}",
        f"resize: 8, crop: [8, 0], {NORMAL}",
        f"resize: 8, crop: [8, 8, 8], {NORMAL}",
        "pad: 8, mean: [0, 0, 0], std: [1, 0, 1]",
        "pad: 8, mean: [0, .nan, 0], std: [1, 1, 1]",
    ],
)
def test_numbers_that_no_picture_survives_are_refused(tmp_path, fields):
    with pytest.raises(ModelFailed, match="preprocess"):
        parsed(tmp_path, f"{SPEC}preprocess: {{{fields}}}")


@pytest.mark.parametrize("text", ["", "- source: zoo", "just words", "source: [", "a: b: c", "\tsource: zoo"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(ModelFailed) as caught:
        parsed(tmp_path, text)
    assert str(tmp_path / "model.yaml") in caught.value.detail
    assert "\n" not in caught.value.detail


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path):
    with pytest.raises(ModelFailed, match="can't be read: No such file"):
        Entry("mine", "1", LocalPlace(tmp_path)).spec()
    (tmp_path / "model.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ModelFailed, match="is not UTF-8"):
        Entry("mine", "1", LocalPlace(tmp_path)).spec()


def test_yaml_builds_no_objects(tmp_path):
    with pytest.raises(ModelFailed, match="is not YAML"):
        parsed(tmp_path, f"{SPEC}labels: !!python/object/apply:os.mkdir ['{tmp_path}/pwned']")
    assert not (tmp_path / "pwned").exists()


def test_what_a_spec_leaves_out(tmp_path):
    spec = parsed(tmp_path, SPEC)
    assert (spec.task, spec.activation, spec.layer, spec.batch, spec.load) == (
        "classification",
        "softmax",
        "auto",
        8,
        "start",
    )
    assert (spec.sha256, spec.labels, spec.preprocess) == (None, None, None)


@pytest.mark.parametrize(
    ("geometry", "size"),
    [
        ("resize: 256, crop: 224", (224, 224)),
        ("resize: 72, crop: [64, 96]", (64, 96)),
        ("resize: [90, 130]", (90, 130)),
        ("resize: [90, 130], crop: 80", (80, 80)),
        ("resize: [90, 130], crop: [80, 120]", (80, 120)),
        ("pad: 128", (128, 128)),
    ],
)
def test_the_size_of_what_a_model_receives(tmp_path, geometry, size):
    preprocess = parsed(tmp_path, f"{SPEC}preprocess: {{{geometry}, {NORMAL}}}").preprocess
    assert preprocess.input_size == size


@pytest.mark.parametrize(("channels", "count"), [("bgr", 3), ("gray", 1), (4, 4)])
def test_channels_may_be_said_in_either_place(tmp_path, channels, count):
    said, rest = f"channels: {channels}", f"pad: 8, mean: {[0] * count}, std: {[1] * count}"
    there = parsed(tmp_path, f"{SPEC}preprocess: {{{said}, {rest}}}")
    here = parsed(tmp_path, f"{SPEC}input: {{{said}}}\npreprocess: {{{rest}}}")
    both = parsed(tmp_path, f"{SPEC}input: {{{said}}}\npreprocess: {{{said}, {rest}}}")
    assert there == here == both
    assert there.input.channels == channels
    with pytest.raises(ModelFailed, match=r"input\.channels and preprocess\.channels say different things"):
        parsed(tmp_path, f"{SPEC}input: {{channels: rgb}}\npreprocess: {{{said}, {rest}}}")
    with pytest.raises(ModelFailed, match=r"input\.channels"):
        parsed(tmp_path, f"{SPEC}preprocess: {{channels: grb, {rest}}}")


def test_padding_has_the_mean_colour():
    assert Preprocess((0.485, 0.456, 0.406), (1, 1, 1), pad=8).fill == (124, 116, 104)
    assert Preprocess((0.0, 0.5, 1.0), (1, 1, 1), pad=8).fill == (0, 128, 255)
