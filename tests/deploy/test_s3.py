"""The overlay for a bucket: what it asks for is what the service needs, and an outage takes nothing that is loaded."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from exposed import value
from gradcam_service.registry.repository import EMBEDDED, scan
from live import ADMIN_TOKEN, Service, running_eagerly, until
from repository import ROOT
from s3 import Store, forget, store

from .test_kubernetes import environment_of

SCENES = EMBEDDED / "scenes" / "1"
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An S3 server, in an environment that has the overlay's variables for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with store(tmp_path) as running:
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", environment_of("s3")["AWS_MAX_ATTEMPTS"])
        yield running


def publish(repository: str, version: str) -> None:
    """A model of that version, as `deploy/README.md` says: its model.yaml last."""
    system, root = fsspec.url_to_fs(repository)
    system.mkdirs(root.partition("/")[0], exist_ok=True)
    for file in ("labels.txt", "weights.safetensors", "model.yaml"):
        content = (SCENES / file).read_bytes() + (b"runtime: eager\n" if file == "model.yaml" else b"")
        system.pipe_file(f"{root}/mine/{version}/{file}", content)


def test_an_outage_takes_nothing_that_is_loaded(s3: Store):
    repository = environment_of("s3")["GRADCAM_MODEL_REPOSITORY"]
    scene = (ROOT / "service/gradcam_service/api/examples/scene.jpg").read_bytes()

    def predict(service: Service) -> tuple[int, str]:
        answer = service.client.post("/predict", content=scene, headers={"Content-Type": "image/jpeg"})
        body = answer.json()
        return answer.status_code, body["model"]["version"] if answer.status_code == 200 else body["code"]

    def ready(service: Service) -> int:
        return service.client.get("/readyz").status_code

    def unreadable(service: Service) -> float:
        return value(service.client, "gradcam_repositories_unreadable")

    def logged(service: Service) -> list[str]:
        return [record["message"] for record in service.records() if "repositories can" in record["message"]]

    publish(repository, "1")
    with running_eagerly(
        model_repository=repository, default_model="mine", poll_seconds=0.2, admin_token=ADMIN_TOKEN
    ) as service:
        assert (predict(service), unreadable(service), logged(service)) == ((200, "1"), 0, [])

        s3.stop()
        until(lambda: unreadable(service), 1)
        assert (ready(service), predict(service)) == (200, (200, "1"))
        refused = service.client.post("/models/reload", headers=ADMIN).json()
        assert (refused["status"], refused["code"]) == (503, "model_failed")
        assert f"{repository} can't be read" in refused["detail"]
        assert logged(service) == ["the model repositories can't be read; what is loaded stays as it is"]

        # A worker that starts without the bucket, as in a new pod.
        os.kill(service.pids("worker")[-1], signal.SIGKILL)
        until(lambda: len(logged(service)), 2)
        assert logged(service)[1] == "the model repositories can't be read; nothing is loaded until they can"
        assert (ready(service), predict(service), unreadable(service)) == (503, (503, "not_ready"), 1)
        assert service.client.post("/models/reload", headers=ADMIN).json()["code"] == "not_ready"
        assert service.client.get("/livez").status_code == 200  # so that no probe ends it

        s3.start()
        publish(repository, "1")
        publish(repository, "2")
        until(lambda: (ready(service), predict(service)), (200, (200, "2")), seconds=120)
        assert unreadable(service) == 0
        assert logged(service)[-1] == "the model repositories can be read again"


def test_the_service_asks_for_what_the_policy_allows_and_for_no_more(s3: Store):
    """Each call of S3 needs the action of its name: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html."""
    repository = environment_of("s3")["GRADCAM_MODEL_REPOSITORY"]
    bucket, _, prefix = repository.removeprefix("s3://").partition("/")
    publish(repository, "1")
    fsspec.filesystem("s3").pipe_file(f"{repository}/mine/aliases.yaml", b"stable: 1\n")
    before = len(s3.requests())
    entry = next(iter(scan([repository])))
    scanned = s3.requests()[before:]
    entry.spec()
    entry.folder()
    loaded = s3.requests()[before + len(scanned) :]

    # One for every thousand objects, and one for each model that has aliases: what README's price of polling counts.
    assert [request.partition("?")[0] for request in scanned] == [
        f"GET /{bucket}",
        f"GET /{bucket}/{prefix}/mine/aliases.yaml",
    ]
    assert f"prefix={prefix}/&" in scanned[0]
    assert {request.rpartition("/")[0] for request in loaded} == {f"GET /{bucket}/{prefix}/mine/1"}
    listing, getting = json.loads((ROOT / "deploy/kubernetes/overlays/s3/policy.json").read_text())["Statement"]
    assert (listing["Action"], getting["Action"]) == ("s3:ListBucket", "s3:GetObject")
    assert listing["Resource"] == f"arn:aws:s3:::{bucket}"
    assert listing["Condition"] == {"StringLike": {"s3:prefix": [f"{prefix}/*"]}}
    assert getting["Resource"] == f"arn:aws:s3:::{bucket}/{prefix}/*"


def test_a_service_account_is_enough(s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As in a pod, where a token and a role are all that is given."""
    repository = environment_of("s3")["GRADCAM_MODEL_REPOSITORY"]
    publish(repository, "1")
    (tmp_path / "token").write_text("header.payload.signature")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/gradcam-models")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    forget()
    assert "mine@1" in {entry.key for entry in scan([repository])}
    assert "POST /" in s3.requests()  # AssumeRoleWithWebIdentity
