"""Weights are what they are said to be before a byte is interpreted, and no download leaves half a file."""

import hashlib
import os
import pickle
import random
import re
import socket
import threading
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import safetensors.torch
import torch
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.checkpoint import read_tensors
from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.weights import fetch, verified
from gradcam_service.zoo.network import scenes_network

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch, on damaged files

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.tensor([1.5, -2.0])}
WEIGHTS = safetensors.torch.save(STATE)
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves bytes by path and counts requests.

    Attributes:
        files: path → bytes of a response after its status line and `Connection: close`, headers included.
        requests: path → how often it was asked for.
    """

    def __init__(self):
        self.files = {}
        self.requests = Counter()
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def put(self, path, body, length=None):
        self.files[path] = b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body
        return self.url(path)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests[self.path] += 1
        if self.path == "/garbage":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        elif self.path not in self.server.files:
            self.send_error(404)
        else:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + self.server.files[self.path])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as started:
        thread = threading.Thread(target=started.serve_forever, args=(0.01,))
        thread.start()
        yield started
        started.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and no proxy between the test and its server."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    urllib.request.install_opener(None)  # it remembers proxies
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    urllib.request.install_opener(None)


def left_in(cache):
    return [path for path in cache.rglob("*") if path.is_file()]


@pytest.fixture
def closed_port():
    """A port of loopback that nobody listens on, nor can while it is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("digits", [64, 8])
def test_weights_with_the_right_digest_are_fetched_once(server, cache, digits):
    url = server.put("/w/weights.safetensors", WEIGHTS)
    path = fetch(url, DIGEST[:digits])
    assert path.read_bytes() == WEIGHTS
    assert left_in(cache) == [path]
    assert fetch(url, DIGEST[:digits]) == path
    assert server.requests == {"/w/weights.safetensors": 1}
    state = read_tensors(verified(path, DIGEST))[""]
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_weights_of_one_name_from_two_places_are_kept_apart(server):
    other = safetensors.torch.save({"a": torch.ones(1)})
    fetched = fetch(server.put("/a/w.safetensors", WEIGHTS), DIGEST)
    url = server.put("/b/w.safetensors", other)
    assert fetch(url, hashlib.sha256(other).hexdigest()).read_bytes() == other
    assert fetched.read_bytes() == WEIGHTS


@pytest.mark.parametrize("digest", ["0" * 64, "deadbeef"])
def test_weights_with_a_wrong_digest_are_thrown_away(server, cache, digest):
    url = server.put("/w.safetensors", WEIGHTS)
    for _ in range(2):
        with pytest.raises(ModelFailed) as caught:
            fetch(url, digest)
        assert url in caught.value.detail
        assert DIGEST in caught.value.detail
        assert digest in caught.value.detail
        assert left_in(cache) == []
    assert server.requests == {"/w.safetensors": 2}


def test_cached_weights_that_were_changed_are_not_used(server):
    url = server.put("/w.safetensors", WEIGHTS)
    path = fetch(url, DIGEST)
    path.write_bytes(safetensors.torch.save({"layer.weight": torch.zeros(2, 3)}))
    try:
        assert fetch(url, DIGEST).read_bytes() == WEIGHTS
    except ModelFailed as error:
        assert DIGEST in error.detail  # noqa: PT017 refusing is as good as fetching again


def test_a_digest_is_compared_to_its_last_digit_for_cached_weights_too(server):
    url = server.put("/w.safetensors", WEIGHTS)
    fetch(url, DIGEST)
    with pytest.raises(ModelFailed, match="SHA-256"):
        fetch(url, DIGEST[:-1] + ("0" if DIGEST[-1] != "0" else "1"))


def test_the_query_of_a_url_is_not_part_of_the_files_name(server):
    url = server.put("/w.safetensors?token=secret&v=2", WEIGHTS)
    path = fetch(url, DIGEST)
    assert path.suffix == ".safetensors"
    assert read_tensors(path)[""].keys() == STATE.keys()


def test_weights_that_are_not_there_are_named(server, cache):
    with pytest.raises(ModelFailed, match="can't be fetched") as caught:
        fetch(server.url("/missing.safetensors"), DIGEST)
    assert server.url("/missing.safetensors") in caught.value.detail
    assert "Not Found" in caught.value.detail
    assert left_in(cache) == []


def test_a_refused_connection_is_named(cache, closed_port):
    url = f"http://127.0.0.1:{closed_port}/w.safetensors"
    with pytest.raises(ModelFailed, match="refused") as caught:
        fetch(url, DIGEST)
    assert url in caught.value.detail
    assert left_in(cache) == []


def chunked(body):
    """A body in chunks that ends in the middle of the second."""
    half = len(body) // 2
    return b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n%x\r\n%b" % (half, body[:half], len(body), body[half:])


def test_a_download_that_breaks_off_is_thrown_away(server, cache):
    url = server.put("/short.safetensors", WEIGHTS[:-10], length=len(WEIGHTS))
    with pytest.raises(ModelFailed) as caught:
        fetch(url, DIGEST)
    assert url in caught.value.detail
    assert left_in(cache) == []


def test_a_download_in_chunks_that_breaks_off_is_thrown_away(server, cache):
    server.files["/chunked"] = chunked(WEIGHTS)
    with pytest.raises(ModelFailed, match="/chunked"):
        fetch(server.url("/chunked"), DIGEST)
    assert left_in(cache) == []


def test_a_server_that_speaks_something_else_is_named(server, cache):
    with pytest.raises(ModelFailed, match="/garbage"):
        fetch(server.url("/garbage"), DIGEST)
    assert left_in(cache) == []


@pytest.mark.parametrize("url", ["http://[::1/w.safetensors", "http://127.0.0.1:port/w", "http://127.0.0.1:1/a b"])
def test_a_url_that_is_none_is_named(cache, url):
    with pytest.raises(ModelFailed) as caught:
        fetch(url, DIGEST)
    assert url in caught.value.detail
    assert left_in(cache) == []


class Evil:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("save", ["torch", "torch, old format", "pickle"])
def test_a_pickle_with_code_is_refused_and_its_code_does_not_run(tmp_path, save, suffix):
    path, made = tmp_path / f"evil{suffix}", tmp_path / "made"
    content = {"layer.weight": torch.ones(1), "layer.bias": Evil(made)}
    if save == "pickle":
        path.write_bytes(pickle.dumps({"layer.bias": Evil(made)}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=save == "torch")
    with pytest.raises(ModelFailed, match="never pickled code"):
        read_tensors(verified(path, hashlib.sha256(path.read_bytes()).hexdigest()))
    assert not made.exists()
    if save == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert made.exists(), "the pickle was harmless, so refusing it proved nothing"


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(ModelFailed, match="never pickled code") as caught:
        read_tensors(tmp_path / "module.pt")
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("content", [[torch.ones(1)], {"a": {"w": 1}}, {"w": 1}, {1: torch.ones(1)}, torch.ones(1)])
def test_tensors_that_are_no_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelFailed, match="something else than a state dict"):
        read_tensors(tmp_path / "w.pt")


@pytest.mark.parametrize("old", [False, True])
def test_a_state_dict_is_read(tmp_path, old):
    torch.save(STATE, tmp_path / "w.pt", _use_new_zipfile_serialization=not old)
    state = read_tensors(tmp_path / "w.pt")[""]
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "text"])
def test_damaged_safetensors_are_refused(tmp_path, damage):
    damaged = {"cut": WEIGHTS[:-1], "header": b"\xff" * 8 + WEIGHTS[8:], "empty": b"", "text": b"<html>404</html>"}
    (tmp_path / "w.safetensors").write_bytes(damaged[damage])
    with pytest.raises(ModelFailed, match=r"w\.safetensors are no safetensors file"):
        read_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", bytes(100), b"\x80\x02.", WEIGHTS])
def test_what_is_no_state_dict_at_all_is_refused(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ModelFailed, match=r"w\.pt"):
        read_tensors(tmp_path / "w.pt")


@pytest.mark.parametrize("form", ["zip", "old format", "safetensors"])
def test_weights_cut_short_anywhere_are_refused(tmp_path, form):
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        path.write_bytes(WEIGHTS)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=form == "zip")
    intact = path.read_bytes()
    for length in range(0, len(intact), 5):
        path.write_bytes(intact[:length])
        with pytest.raises(ModelFailed, match=re.escape(str(path))):
            read_tensors(path)


def test_a_damaged_state_dict_is_refused_however_it_is_damaged(tmp_path):
    path, rng, refused = tmp_path / "w.pt", random.Random(0), 0
    torch.save(STATE, path)
    intact = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(intact)
        for _ in range(3):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_tensors(path)  # the damage may have hit a number or padding: that, only a digest can tell
        except ModelFailed as error:
            assert str(path) in error.detail  # noqa: PT017
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_digest_is_checked_before_a_file_is_interpreted(tmp_path, suffix):
    path, made = tmp_path / f"w{suffix}", tmp_path / "made"
    torch.save({"w": Evil(made)}, path)
    with pytest.raises(ModelFailed, match=f"SHA-256 [0-9a-f]{{64}}, not the expected {'1' * 64}"):
        read_tensors(verified(path, "1" * 64))
    assert not made.exists()


def test_a_file_that_is_not_there_is_named(tmp_path):
    for name in ("w.pt", "w.safetensors"):
        with pytest.raises(ModelFailed, match=f"{name} can't be read: No such file"):
            read_tensors(tmp_path / name)
        with pytest.raises(ModelFailed, match=f"{name} can't be read: No such file"):
            read_tensors(verified(tmp_path / name, DIGEST))


def entry(folder, weights, **more):
    """A scenes network whose weights come from elsewhere, as an operator would write it."""
    spec = {"source": "zoo", "architecture": "scenes", "weights": weights, "labels": "labels.txt"} | more
    preprocess = "preprocess: {pad: 64, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.25]}"
    lines = [f"{name}: {value}" for name, value in spec.items()]
    (folder / "model.yaml").write_text("\n".join([*lines, preprocess]))
    (folder / "labels.txt").write_text("\n".join("abcdefghijkl"))
    return Entry("mine", "1", LocalPlace(folder))


def test_a_model_from_a_url_predicts_what_its_module_predicts(server, tmp_path):
    torch.manual_seed(5)
    module = scenes_network().eval()
    content = safetensors.torch.save(module.state_dict())
    url = server.put("/x.safetensors", content)
    model = load(entry(tmp_path, url, sha256=hashlib.sha256(content).hexdigest()), torch.device("cpu"))
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert_close(model.network.predict(x)[1], module(x), rtol=0, atol=1e-6)
    assert model.card.weights == url
    assert model.card.labels == list("abcdefghijkl")
    assert server.requests == {"/x.safetensors": 1}


def test_a_url_without_a_digest_is_not_even_asked(server, tmp_path):
    with pytest.raises(ModelFailed, match="need a sha256"):
        load(entry(tmp_path, server.put("/x.safetensors", WEIGHTS)), torch.device("cpu"))
    assert server.requests == {}


@pytest.mark.parametrize("scheme", ["file://", "local://", "simplecache::file://", "zip://x::local://"])
def test_a_url_that_leads_to_a_file_of_this_machine_is_refused(tmp_path, scheme):
    (tmp_path / "mine").mkdir()
    (tmp_path / "w.safetensors").write_bytes(WEIGHTS)
    with pytest.raises(ModelFailed, match=r"are a file of this machine; put it beside model\.yaml") as caught:
        load(entry(tmp_path / "mine", f"{scheme}{tmp_path}/w.safetensors", sha256="a" * 64), torch.device("cpu"))
    assert DIGEST not in caught.value.detail


def test_weights_that_do_not_fit_the_architecture_are_refused_in_one_line(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(WEIGHTS)
    with pytest.raises(ModelFailed, match=r"w\.safetensors don't fit scenes: .*layer\.bias") as caught:
        load(entry(tmp_path, "w.safetensors"), torch.device("cpu"))
    assert "\n" not in caught.value.detail


def test_weights_of_other_shapes_are_refused(tmp_path):
    state = scenes_network().state_dict() | {"fc.weight": torch.ones(13, 128)}
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelFailed, match=r"don't fit scenes: .*size mismatch for fc\.weight") as caught:
        load(entry(tmp_path, "w.safetensors"), torch.device("cpu"))
    assert "\n" not in caught.value.detail


def test_published_weights_that_cannot_be_fetched_are_named(tmp_path, monkeypatch, cache, closed_port):
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed_port}")  # nothing gets out, whatever the network
    (tmp_path / "model.yaml").write_text("source: torchvision\narchitecture: resnet18\nweights: IMAGENET1K_V1\n")
    with pytest.raises(ModelFailed, match="can't be fetched") as caught:
        load(Entry("resnet18", "1", LocalPlace(tmp_path)), torch.device("cpu"))
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in caught.value.detail
    assert left_in(cache) == []
