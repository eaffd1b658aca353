"""The manifests for KServe: its own schemas take them, and the service what they and KServe give it."""

import copy
import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

from api.calls import base64_of, encoded, explain, photo, values
from gradcam_service.registry.repository import EMBEDDED
from gradcam_service.settings import Settings, misspelt
from live import GRADCAM, free_port, running
from repository import ROOT

from .manifests import built

MANIFESTS = ROOT / "deploy" / "kserve"
SCHEMAS = json.loads((Path(__file__).parent / "kserve_schemas.json").read_text())
MODEL = """\
source: zoo
architecture: scenes
weights: random:0
runtime: eager
labels: [a, b, c, d, e, f, g, h, i, j, k, l]
preprocess: {pad: 128, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
"""


def manifests():
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in built(MANIFESTS)}


RUNTIME = ("ClusterServingRuntime", "gradcam")
EXPLAINED = ("InferenceService", "flowers")


def check(manifest):
    jsonschema.validate(manifest, SCHEMAS[f"{manifest['apiVersion']}/{manifest['kind']}"])


def test_kserve_takes_them():
    found = manifests()
    assert found.keys() == {RUNTIME, ("InferenceService", "birds"), EXPLAINED}
    for manifest in found.values():
        check(manifest)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "containers", 0, "arguments"], ["kserve"]),
        (["spec", "containers", 0, "ports", 0, "containerPort"], "8080"),
        (["spec", "supportedModelFormats", 0, "priority"], "1"),
        (["spec", "protocolVersion"], ["v1"]),
    ],
)
def test_kserve_would_refuse_what_it_does_not_know(path, value):
    broken = copy.deepcopy(manifests()[RUNTIME])
    place = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check(broken)


def containers():
    runtime, explained = manifests()[RUNTIME], manifests()[EXPLAINED]
    return [*runtime["spec"]["containers"], *explained["spec"]["explainer"]["containers"]]


@pytest.mark.parametrize("number", [0, 1])
def test_a_container_is_this_service_and_may_write_where_it_has_to(number):
    container = containers()[number]
    assert container["name"] == "kserve-container"
    assert re.fullmatch(r"gradcam-service:\d.*", container["image"])
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp", "/dev/shm", "/cache"}
    variables = {variable["name"]: variable.get("value", "1") for variable in container["env"]}
    assert list(misspelt(variables)) == []
    assert {name.removeprefix("GRADCAM_").lower() for name in variables} <= Settings.model_fields.keys()


@pytest.mark.parametrize("number", [0, 1])
def test_the_cache_is_bounded_below_its_volume(number):
    runtime, explained = manifests()[RUNTIME], manifests()[EXPLAINED]
    volumes = [runtime["spec"]["volumes"], explained["spec"]["explainer"]["volumes"]][number]
    (size,) = (volume["emptyDir"]["sizeLimit"] for volume in volumes if volume["name"] == "cache")
    (bound,) = (one["value"] for one in containers()[number]["env"] if one["name"] == "GRADCAM_CACHE_BYTES")
    assert int(bound) <= 0.8 * int(size.removesuffix("Gi")) * 2**30


def test_the_ports_are_those_that_kserve_looks_at():
    container, _ = containers()
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http1": 8080, "grpc": 9000}
    assert "--http_port=8080" in container["args"]
    assert "--grpc_port=9000" in container["args"]
    assert yaml.safe_load((MANIFESTS / "runtime.yaml").read_text())["spec"]["protocolVersions"] == [
        "v1",
        "v2",
        "grpc-v2",
    ]


def started(number, models, *appended):
    """The service as a container starts it, on free ports, with what KServe appends to its arguments."""
    container = containers()[number]
    here = {"8080": str(free_port()), "9000": "0", "/mnt/models": str(models), "{{.Name}}": "birds"}
    args = [re.sub("|".join(map(re.escape, here)), lambda found: here[found[0]], one) for one in container["args"]]
    environment = [f"{one['name']}={one['value']}" for one in container["env"] if "value" in one]
    unset = ["-u", "GRADCAM_PORT", "-u", "GRADCAM_DEFAULT_MODEL"]  # which a test's services have
    return running("env", *unset, *environment, str(GRADCAM), *args, *appended, cpus=2)


def test_the_predictor_answers_by_the_name_of_its_inference_service(tmp_path):
    (tmp_path / "model.yaml").write_text(MODEL)
    with started(0, tmp_path) as service:
        listed = service.client.get("/models").json()["models"]
        assert [model["name"] for model in listed] == ["birds"]
        assert service.client.get("/readyz").status_code == 200


def test_the_explainer_explains_another_server_as_that_does_itself(service, tmp_path):
    """RISE asks for probabilities alone, which is what a second service of this kind answers as a predictor."""
    spec = yaml.safe_load((EMBEDDED / "scenes" / "1" / "model.yaml").read_text())
    options = {"url": service.url, "model": "scenes-tensor"}
    asking = {
        "source": "predictor",
        "options": options,
        "activation": "none",
        "method": "occlusion",
        "runtime": "eager",
    }
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(asking | {"preprocess": spec["preprocess"]}))
    picture = encoded(photo(160, 120), "PNG")
    asked = {"output": "map", "target": 3, "method": "rise", "masks": 100}
    native = explain(service.client, picture, model="scenes", **asked)
    appended = ["--model_name", "birds", "--predictor_host", "birds-predictor.default", "--http_port", str(free_port())]
    appended += ["--model_dir", str(tmp_path)]  # in place of /mnt/models
    with started(1, tmp_path, *appended) as explainer:
        found = explain(explainer.client, picture, model="birds", **asked)
        instances = {"instances": [{"image": {"b64": base64_of(picture)}}], "parameters": {"output": "map"}}
        by_default = explainer.client.post("/v1/models/birds:explain", json=instances)
        (listed,) = explainer.client.get("/models").json()["models"]
    np.testing.assert_allclose(values(found["map"]), values(native["map"]), atol=1e-6)
    assert by_default.status_code == 200, by_default.text
    assert listed["method"] == "occlusion"
    assert '"method":"occlusion"' in by_default.text.replace(" ", "")
