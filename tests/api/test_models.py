"""What the service says about its models and itself is true."""

import pytest

from live import until
from repository import EMBEDDED_KEYS, EMBEDDED_MODELS

from . import truth
from .calls import ask, encoded, photo, problem


def listed(client):
    return {model["name"]: model for model in client.get("/models").json()["models"]}


def test_every_version_in_the_repositories_is_listed_with_its_state(client):
    body = client.get("/models").json()
    assert body.keys() == {"default", "models"}
    assert body["default"] == "scenes"
    assert [(m["name"], m["version"]) for m in body["models"]] == [
        ("alexnet", "1"),
        ("resnet18", "1"),
        ("resnet50", "1"),
        ("small", "1"),
        ("scenes", "1"),
        ("easy-vqa", "1"),
        ("imagenet", "1"),
        ("policy", "1"),
        ("scenes-captions", "1"),
    ]
    states = {name: model["state"] for name, model in listed(client).items()}
    for name in set(EMBEDDED_MODELS) - {"scenes"}:  # on demand, where another is the default
        assert states.pop(name) in ("unloaded", "loading", "ready")
    assert states.pop("resnet50") in ("unloaded", "failed")  # on demand, from a hub that can't be reached here
    assert set(states.values()) == {"ready"}
    assert listed(client)["resnet18"]["aliases"] == ["stable"]


@pytest.mark.parametrize(
    ("name", "classes", "activation", "side", "layer", "shape", "weights"),
    [
        ("resnet18", 1000, "softmax", 224, "layer4", [512, 7, 7], "random:0"),
        ("alexnet", 1000, "softmax", 224, "features.11", [256, 13, 13], "random:0"),
        ("scenes", 12, "sigmoid", 128, "layer3", [128, 16, 16], "weights.safetensors"),
    ],
)
def test_a_ready_model_tells_what_it_is(client, name, classes, activation, side, layer, shape, weights):
    model = listed(client)[name]
    assert model.keys() - {"reason", "description"} == {
        *("name", "version", "aliases", "state", "task", "activation", "input", "classes", "layer", "methods"),
        *("entries", "method", "digest", "source", "weights", "memory", "runtime", "precision", "torch", "device"),
    }
    assert (model["classes"], model["activation"], model["weights"]) == (classes, activation, weights)
    assert model["task"] == "classification"
    words = {"one": "class", "several": "classes", "title": "What it sees"}
    about = {"member": "predictions", "target": "", "beside": "", "values": False, "compared": True}
    assert model["entries"] == words | about
    files = {"media_types": ["image/*", "application/x-npy", "application/dicom"]}
    colours = {"channels": 3, "depth": 8, **files, "endings": [".tif", ".tiff", ".npy", ".dcm"]}
    assert model["input"] == {"width": side, "height": side, **colours}
    assert model["layer"] == {"name": layer, "shape": shape}
    assert "gradcam" in model["methods"]
    assert model["method"] == "gradcam"
    assert model["device"] == list(client.get("/healthz").json()["devices"])


@pytest.mark.parametrize(
    ("name", "text", "entries"),
    [
        ("scenes-captions", {"option": "caption", "required": False, "spoken": True}, ("caption.words", "word", False)),
        ("easy-vqa", {"option": "question", "required": True, "spoken": False}, ("answers", "", True)),
    ],
)
def test_a_model_tells_which_option_its_text_goes_into_and_what_it_lists(client, name, text, entries):
    client.post("/predict", files={"image": encoded(photo(64, 64), "PNG")}, data={"model": name})  # which loads it
    until(lambda: client.get(f"/models/{name}").json()["state"] == "ready")
    told = client.get(f"/models/{name}").json()
    assert text.items() <= told["text"].items()
    assert tuple(told["entries"][which] for which in ("member", "target", "compared")) == entries


def test_a_model_says_what_it_is_for_loaded_or_not(client):
    said = {name: model.get("description") for name, model in listed(client).items()}
    assert said.pop("imagenet") == "Names what a photograph shows among ImageNet's 1,000 classes."
    assert said.pop("scenes") == "Finds 12 shapes in drawn scenes, where the truth is known."
    assert all(said.pop(name) for name in set(EMBEDDED_MODELS) & said.keys())
    assert set(said.values()) == {None}


def test_the_service_prints_what_its_default_model_is_for(service):
    said = "  The default model is scenes: Finds 12 shapes in drawn scenes, where the truth is known.\n"
    until(lambda: said in service.output)


@pytest.mark.parametrize("name", ["resnet18", "alexnet", "scenes"])
def test_a_model_by_itself_tells_its_labels_layers_and_preprocessing_too(client, name):
    detail = client.get(f"/models/{name}").json()
    assert {key: detail[key] for key in listed(client)[name]} == listed(client)[name]
    assert detail.keys() - listed(client)[name].keys() == {
        "checks",
        "labels",
        "layers",
        "inner_layers",
        "preprocess",
        "method_details",
    }
    assert len(detail["labels"]) == detail["classes"]
    assert detail["layer"] in detail["layers"]
    names = [layer["name"] for layer in detail["layers"]] + detail["inner_layers"]
    assert len(set(names)) == len(names)
    assert ("layer4.1.conv2" in detail["inner_layers"]) == (name == "resnet18")
    if name == "scenes":
        assert detail["preprocess"]["pad"] == 128
        return
    preset = truth.torchvision.models.get_model_weights(name).DEFAULT.transforms()
    assert detail["preprocess"] == {
        "mean": preset.mean,
        "std": preset.std,
        "resize": preset.resize_size[0],
        "crop": preset.crop_size[0],
        "interpolation": preset.interpolation.value,
    }


def test_every_layer_that_is_listed_can_be_explained_and_has_the_listed_shape(client, png):
    for layer in client.get("/models/alexnet").json()["layers"]:
        response = ask(client, "/explain", png, model="alexnet", layer=layer["name"], output="map", target=1)
        (explanation,) = response.json()["results"][0]["explanations"]
        assert explanation["layer"] == layer["name"]
        assert explanation["map"]["shape"] == layer["shape"][1:]


def test_every_method_that_is_listed_works(client, png):
    cheap = {"rise": {"masks": 8}, "smoothgrad": {"samples": 2}, "integrated_gradients": {"steps": 4}}
    details = client.get("/models/scenes").json()["method_details"]
    for method in listed(client)["scenes"]["methods"]:
        options = cheap.get(method, {})
        response = ask(client, "/explain", png, method=method, output=["map", "heatmap", "overlay"], **options)
        (explanation,) = response.json()["results"][0]["explanations"]
        assert explanation["method"] == method
        assert explanation["map"]["shape"] in ([16, 16], [128, 128], [128, 128, 3])
        (detail,) = (one for one in details if one["name"] == method)
        assert explanation["kind"] == detail["kind"]
        assert (len(explanation["map"]["shape"]) == 3) == (detail["kind"] == "signed_colour")


@pytest.mark.parametrize("reference", ["resnet18", "resnet18@1", "resnet18@stable"])
def test_a_model_is_found_by_name_version_and_alias(client, reference):
    assert client.get(f"/models/{reference}").json() == client.get("/models/resnet18").json()


@pytest.mark.parametrize(
    ("reference", "part"),
    [("nope", "scenes"), ("resnet18@2", "stable"), ("resnet18@Stable", "stable"), ("%00", "scenes")],
)
def test_an_unknown_model_version_or_alias_is_a_404_that_names_what_there_is(client, reference, part):
    assert part in problem(client.get(f"/models/{reference}"), 404, "unknown_model")


def test_a_model_that_can_not_be_fetched_is_a_503_that_names_the_url(client, png):
    response = ask(client, "/predict", png, model="resnet50")
    detail = problem(response, 503, "model_failed")
    assert "https://download.pytorch.org/models/resnet50-11ad3fa6.pth" in detail
    assert int(response.headers["retry-after"]) >= 1
    model = client.get("/models/resnet50").json()
    assert model["state"] == "failed"
    assert "resnet50-11ad3fa6.pth" in model["reason"]
    assert model.keys() == {"name", "version", "aliases", "state", "reason"}
    assert ask(client, "/predict", png).status_code == 200  # and nothing else is the worse for it


def test_health_of_the_process_of_its_readiness_and_of_the_service(client):
    assert client.get("/livez").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}
    health = client.get("/healthz").json()
    assert health.keys() == {"status", "version", "devices", "models"}
    assert health["status"] == "ok"
    assert set(health["devices"].values()) == {"up"}
    assert health["version"] == client.get("/openapi.json").json()["info"]["version"]
    assert health["models"].keys() == {"alexnet@1", "resnet18@1", "resnet50@1", "small@1", *EMBEDDED_KEYS}
    assert health["models"]["resnet18@1"] == "ready"


def test_the_schema_of_model_yaml_is_published(client):
    schema = client.get("/docs/model.schema.json").json()
    assert schema["required"] == ["source"]
    assert schema["additionalProperties"] is False
    fields = schema["properties"]
    assert fields["load"]["enum"] == ["start", "demand"]
    assert {"torchvision", "timm", "onnx", "export", "python"} <= set(fields["source"]["enum"])
    assert all("description" in field for name, field in fields.items() if name != "task")
