"""What operators write and callers name: model.yaml, classes, probabilities, references."""

import pytest

from gradcam_service.errors import ModelFailed, UnknownLayer, UnknownModel, UnknownTarget, UnsupportedMethod
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.spec import Card, LayerCard, MethodCard, Model, Preprocess, resolve, version_order

SPEC = "source: torchvision\narchitecture: resnet18\nweights: random:0\n"
NORMAL = "mean: [0, 0, 0], std: [1, 1, 1]"


def parsed(folder, text):
    (folder / "model.yaml").write_text(text)
    return Entry("mine", "1", LocalPlace(folder)).spec()


def card(labels=("cat", "dog", "fox"), activation="softmax"):
    return Card(
        digest="sha256:0",
        source="zoo",
        weights="random:0",
        memory=0,
        task="classification",
        activation=activation,
        labels=list(labels),
        preprocess=Preprocess((0, 0, 0), (1, 1, 1), pad=8),
        batch=8,
        runtime="eager",
        layer="layer4",
        layers=[LayerCard("layer3", (4, 4, 4)), LayerCard("layer4", (8, 2, 2))],
        methods=[MethodCard("gradcam", 1, {})],
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("color: red", ["color:", "not permitted"]),
        ("source: keras", ["source:", "'torchvision'", "'zoo'"]),
        ("source: touchvision", ["source:", "did you mean 'torchvision'?"]),
        ("runtime: onnx_runtime", ["runtime:", "did you mean 'onnxruntime'?", "'auto'", "'eager'", "'cuda_graphs'"]),
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


@pytest.mark.parametrize(
    ("labels", "target", "index"),
    [
        (("cat", "dog", "fox"), 2, 2),
        (("cat", "dog", "fox"), 0, 0),
        (("cat", "dog", "fox"), "dog", 1),
        (("cat", "dog", "fox"), "2", 2),
        (("2", "0", "1"), "2", 0),
        (("2", "0", "1"), "0", 1),
        (("2", "0", "1"), 2, 2),
        (("crane", "dog", "Crane"), "crane", 0),
        (("crane", "dog", "Crane"), "Crane", 2),
        (("tabby, tabby cat", "tiger cat", "Egyptian cat"), "tabby", 0),
        (("tabby, tabby cat", "tiger cat", "Egyptian cat"), "TABBY, Tabby Cat", 0),
        (("tabby, tabby cat", "tiger cat", "Egyptian cat"), " tabby_cat", 0),
        (("tabby, tabby cat", "tiger cat", "Egyptian cat"), "egyptian  cat", 2),
        (("maillot", "maillot, tank suit"), "Maillot", 0),
        (("maillot", "maillot, tank suit"), "tank suit", 1),
        (("Straße", "cafe\u0301"), "STRASSE", 0),
        (("Straße", "cafe\u0301"), "café", 1),
        (("one, 1", "zero, 0"), "1", 1),
        (("Tee, grün", "", " x"), "Tee, grün", 0),
        (("Tee, grün", "", " x"), " x", 2),
    ],
)
def test_a_target_is_a_label_before_it_is_an_index_written_as_text(labels, target, index):
    assert card(labels).class_index(target) == index


@pytest.mark.parametrize("target", [3, -1, 10**30, "3", "-1", "wolf", "", "_", ",", "1.0", "1e0", "0x1", "9" * 5000])
def test_a_target_that_is_no_class_is_refused_with_what_there_is(target):
    with pytest.raises(UnknownTarget) as caught:
        card().class_index(target)
    assert "3 classes, 0 to 2: cat, dog, fox" in caught.value.detail


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("crane", "2 classes are labelled 'crane': 1 'crane', 4 'crane'; an index names one"),
        ("CRANE", "3 classes are labelled 'CRANE': 1 'crane', 2 'Crane', 4 'crane'; an index names one"),
        ("cat", "2 classes are labelled 'cat': 0 'tabby, cat', 3 'tiger cat, cat'; an index names one"),
    ],
)
def test_a_name_of_several_classes_is_refused_with_their_indices(target, told):
    with pytest.raises(UnknownTarget) as caught:
        card(("tabby, cat", "crane", "Crane", "tiger cat, cat", "crane")).class_index(target)
    assert caught.value.detail == told


@pytest.mark.parametrize(
    ("target", "near"),
    [
        ("Cat", "; near it: 1 'tiger cat', 2 'Egyptian cat, mau'"),
        ("tigre cat", "; near it: 1 'tiger cat'"),
        ("egyptian mouse", ""),
        ("c", ""),
    ],
)
def test_a_name_of_no_class_is_refused_with_those_that_are_like_it(target, near):
    with pytest.raises(UnknownTarget) as caught:
        card(("tabby", "tiger cat", "Egyptian cat, mau", "catamaran")).class_index(target)
    listed = "the model has 4 classes, 0 to 3: tabby, tiger cat, Egyptian cat, catamaran"
    assert caught.value.detail == f"no class is labelled {target!r}; {listed}{near}"


def test_a_handful_of_classes_at_most_is_told_near():
    with pytest.raises(UnknownTarget) as caught:
        card([f"dog {i}" for i in range(1000)]).class_index("dog")
    assert caught.value.detail.endswith("near it: 0 'dog 0', 1 'dog 1', 2 'dog 2', 3 'dog 3', 4 'dog 4'")


def test_a_target_with_an_underscore_is_no_index():
    with pytest.raises(UnknownTarget, match="1_0"):
        card([f"class {i}" for i in range(12)]).class_index("1_0")


def test_a_long_list_of_classes_is_cut_short():
    with pytest.raises(UnknownTarget) as caught:
        card([f"class {i}" for i in range(1000)]).class_index("wolf")
    assert "1000 classes, 0 to 999: class 0," in caught.value.detail
    assert "class 11, …" in caught.value.detail
    assert "class 12" not in caught.value.detail


def test_questions_are_checked_against_the_card():
    for layer in ("auto", "layer3", "layer4"):
        card().check_question("gradcam", layer, [])
    with pytest.raises(UnsupportedMethod, match=r"'lime'.*gradcam"):
        card().check_question("lime", "auto", [])
    with pytest.raises(UnknownLayer, match=r"'layer5'.*layer3, layer4"):
        card().check_question("gradcam", "layer5", [])


def model(name, version, *aliases, state="ready"):
    return Model(name, version, list(aliases), state)


MODELS = [
    model("cats", "10", state="loading"),
    model("cats", "9", "stable"),
    model("cats", "2", "old"),
    model("cats", "nightly"),
    model("dogs", "1", state="failed"),
    model("dogs", "2", state="unloaded"),
]


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ("cats", "cats@9"),
        ("cats@2", "cats@2"),
        ("cats@10", "cats@10"),
        ("cats@nightly", "cats@nightly"),
        ("cats@stable", "cats@9"),
        ("cats@old", "cats@2"),
        ("dogs", "dogs@2"),
        ("dogs@1", "dogs@1"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_references(reference, key, order):
    assert resolve(MODELS[::order], reference).key == key


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("birds", "'birds'; there are: cats, dogs"),
        ("", "there are: cats, dogs"),
        ("Cats", "'Cats'"),
        ("cats@3", "'3'; it has: nightly, 2, old, 9, stable, 10"),
        ("dogs@stable", "'stable'; it has: 1, 2"),
        ("cats@2@2", "'2@2'"),
    ],
)
def test_references_to_nothing_are_answered_with_what_there_is(reference, says):
    with pytest.raises(UnknownModel) as caught:
        resolve(MODELS, reference)
    assert says in caught.value.detail


def test_nothing_is_found_where_nothing_is():
    with pytest.raises(UnknownModel, match="there are: none"):
        resolve([], "cats")


def test_a_version_goes_before_an_alias_of_the_same_name():
    assert resolve([model("cats", "1", "2"), model("cats", "2")], "cats@2").key == "cats@2"


def test_versions_are_ordered_as_numbers_after_words():
    assert sorted(["10", "nightly", "9", "2", "beta", "100"], key=version_order) == [
        "beta",
        "nightly",
        "2",
        "9",
        "10",
        "100",
    ]
