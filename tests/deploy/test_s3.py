"""Models from a bucket: the component asks for what the service needs, and an outage takes nothing that is loaded."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec
import pytest

from exposed import value
from gradcam_service.registry.repository import EMBEDDED, scan
from live import ADMIN_TOKEN, GRADCAM, Service, closed_port, running_eagerly, until
from repository import ROOT
from s3 import Store, forget, pointed_at, store

SCENES = EMBEDDED / "scenes" / "1"
POLICY = json.loads((ROOT / "deploy/kubernetes/s3/policy.json").read_text())
(REPOSITORY,) = re.findall('s3://[^"]+', (ROOT / "deploy/kubernetes/s3/deployment.yaml").read_text())
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with store(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def s3(server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An S3 server without a bucket, in an environment that has the component's variables for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # as the component has it
    server.clear()
    yield server
    forget()


def publish(repository: str, version: str) -> None:
    """A model of that version, as `deploy/README.md` says: its model.yaml last."""
    system, root = fsspec.url_to_fs(repository)
    system.mkdirs(root.partition("/")[0], exist_ok=True)
    for file in ("labels.txt", "weights.safetensors", "model.yaml"):
        content = (SCENES / file).read_bytes() + (b"runtime: eager\n" if file == "model.yaml" else b"")
        system.pipe_file(f"{root}/mine/{version}/{file}", content)


@pytest.mark.exhaustive
def test_an_outage_takes_nothing_that_is_loaded(s3: Store):
    unread = "can't be read; what is loaded stays as it is"
    never_read = "can't be read; nothing is loaded until they can"
    read_again = "can be read again"
    scene = (ROOT / "service/gradcam_service/api/examples/scene.jpg").read_bytes()

    def predict(service: Service) -> tuple[int, str]:
        headers = {"Content-Type": "image/jpeg"}
        answer = service.client.post("/predict?timeout_ms=5000", content=scene, headers=headers)
        body = answer.json()
        return answer.status_code, body["model"]["version"] if answer.status_code == 200 else body["code"]

    def ready(service: Service) -> int:
        return service.client.get("/readyz").status_code

    def unreadable(service: Service) -> float:
        return value(service.client, "gradcam_repositories_unreadable")

    def logged(service: Service) -> set[str]:
        messages = {record["message"] for record in service.records()}
        return messages & {f"the model repositories {said}" for said in (unread, never_read, read_again)}

    publish(REPOSITORY, "1")
    with running_eagerly(
        model_repository=REPOSITORY, default_model="mine", poll_seconds=0.2, admin_token=ADMIN_TOKEN
    ) as service:
        assert (predict(service), unreadable(service), logged(service)) == ((200, "1"), 0, set())
        publish(REPOSITORY, "2")
        until(lambda: predict(service), (200, "2"))

        s3.stop()
        until(lambda: (unreadable(service), logged(service)), (1, {f"the model repositories {unread}"}))
        assert (ready(service), predict(service)) == (200, (200, "2"))
        refused = service.client.post("/models/reload", headers=ADMIN).json()
        assert (refused["status"], refused["code"]) == (503, "model_failed")
        assert f"{REPOSITORY} can't be read" in refused["detail"]

        # A worker that starts without the bucket.
        os.kill(service.pids("worker")[-1], signal.SIGKILL)
        until(lambda: f"the model repositories {never_read}" in logged(service), seconds=120)
        until(lambda: unreadable(service), 1)
        assert (ready(service), predict(service)) == (503, (503, "not_ready"))
        assert service.client.post("/models/reload", headers=ADMIN).json()["code"] == "not_ready"
        assert service.client.get("/livez").status_code == 200  # so that no probe ends it

        s3.start()
        publish(REPOSITORY, "3")
        until(lambda: (ready(service), predict(service)), (200, (200, "3")), seconds=120)
        assert unreadable(service) == 0
        until(lambda: f"the model repositories {read_again}" in logged(service))


def test_a_service_that_starts_in_an_outage_says_so_and_ends():
    with closed_port() as nobody, pointed_at("http://{}:{}".format(*nobody.getsockname())):
        environment = os.environ | {"GRADCAM_MODEL_REPOSITORY": REPOSITORY, "GRADCAM_PORT": "0"}
        environment["AWS_MAX_ATTEMPTS"] = "1"  # as the component has it
        ended = subprocess.run([GRADCAM, "serve"], env=environment, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(f"gradcam: {REPOSITORY} can't be read: ")


def test_a_scan_asks_for_what_polling_is_said_to_cost(s3: Store):
    """One listing for every thousand objects, and one file for each model that has aliases."""
    publish(REPOSITORY, "1")
    fsspec.filesystem("s3").pipe_file(f"{REPOSITORY}/mine/aliases.yaml", b"stable: 1\n")
    before = len(s3.requests())
    scan([REPOSITORY])
    asked = s3.requests()[before:]
    bucket, _, prefix = REPOSITORY.removeprefix("s3://").partition("/")
    assert [request.partition("?")[0] for request in asked] == [
        f"GET /{bucket}",
        f"GET /{bucket}/{prefix}/mine/aliases.yaml",
    ]
    # As the policy's condition has it, which the server here doesn't look at.
    listing, _ = POLICY["Statement"]
    assert f"prefix={prefix}/&" in asked[0]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": [f"{prefix}/*"]}}


def test_the_policy_allows_what_the_service_asks_for_and_no_more(s3: Store, monkeypatch: pytest.MonkeyPatch):
    publish(REPOSITORY, "1")
    fsspec.filesystem("s3").pipe_file(f"{REPOSITORY}/mine/aliases.yaml", b"stable: 1\n")
    iam = boto3.client("iam")
    iam.create_user(UserName="gradcam")
    iam.put_user_policy(UserName="gradcam", PolicyName="models", PolicyDocument=json.dumps(POLICY))
    key = iam.create_access_key(UserName="gradcam")["AccessKey"]
    s3.enforce()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    forget()
    listing = scan([REPOSITORY])
    entry = next(entry for entry in listing if entry.key == "mine@1")
    assert listing.aliases["mine"] == {"stable": "1"}
    assert entry.spec().architecture == "scenes"
    assert (entry.folder() / "weights.safetensors").read_bytes() == (SCENES / "weights.safetensors").read_bytes()
    system = fsspec.filesystem("s3")
    for refused in (
        lambda: system.pipe_file(f"{REPOSITORY}/mine/1/model.yaml", b""),
        lambda: system.rm_file(f"{REPOSITORY}/mine/1/model.yaml"),
        lambda: system.cat_file(f"{REPOSITORY}-of-others/mine/1/model.yaml"),
    ):
        with pytest.raises(PermissionError):
            refused()


def test_a_service_account_is_enough(s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As in a pod, where a token and a role are all that is given."""
    publish(REPOSITORY, "1")
    (tmp_path / "token").write_text("header.payload.signature")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/gradcam-models")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    forget()
    assert "mine@1" in {entry.key for entry in scan([REPOSITORY])}
    assert "POST /" in s3.requests()  # AssumeRoleWithWebIdentity
