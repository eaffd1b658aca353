"""The page's files over HTTP: what they allow, how they are kept, and how small they are."""

import base64
import importlib.resources
import re

import numpy as np
import pytest

from gradcam_service.images.colormaps import COLORMAPS, table

PACKAGE = importlib.resources.files("gradcam_service")
WEB, PICTURES = PACKAGE / "api" / "web", PACKAGE / "pictures"
FILES = [entry.name for entry in WEB.iterdir() if entry.is_file()]
HTML = {"Accept": "text/html"}
EXAMPLES = [entry.name for entry in PICTURES.iterdir()]


def test_the_page_may_load_from_its_own_origin_alone(client):
    response = client.get("/", headers=HTML)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(rule.strip().split(" ", 1) for rule in response.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["", *(f"web/{name}" for name in FILES), "web/palettes.json", "web/examples/cat.jpg"])
def test_a_file_is_sent_once_and_again_only_when_it_has_changed(client, path):
    first = client.get(f"/{path}", headers=HTML)
    assert first.status_code == 200
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    again = client.get(f"/{path}", headers=HTML | {"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(f"/{path}", headers=HTML | {"If-None-Match": '"another"'}).content == first.content


@pytest.mark.parametrize(
    "path", ["nothing.js", "../app.py", "%2e%2e/app.py", "examples", "examples/", "", "__init__.py"]
)
def test_nothing_else_is_served(client, path):
    assert client.get(f"/web/{path}").status_code == 404


def test_the_palettes_are_the_services_own(client):
    palettes = client.get("/web/palettes.json").json()
    assert list(palettes) == list(COLORMAPS)
    for name, data in palettes.items():
        np.testing.assert_array_equal(np.frombuffer(base64.b64decode(data), np.uint8).reshape(256, 3), table(name))


def test_all_that_the_page_consists_of_is_less_than_55_kb_on_its_way(client):
    parts = ["/", "/web/palettes.json", *(f"/web/{name}" for name in FILES if name != "index.html")]
    assert sum(client.get(part, headers=HTML).num_bytes_downloaded for part in parts) < 55_000


def test_a_file_is_compressed_for_whom_takes_that_and_the_same_for_others(client):
    taken = ("br, gzip;q=0.5", "identity", "gzip;q=0")
    answers = [client.get("/web/app.js", headers={"Accept-Encoding": encodings}) for encodings in taken]
    assert [answer.headers.get("content-encoding") for answer in answers] == ["gzip", None, None]
    assert answers[0].content == answers[1].content == answers[2].content  # httpx has unpacked it
    assert answers[0].headers["etag"] != answers[1].headers["etag"]
    assert {answer.headers["vary"] for answer in answers} == {"Accept-Encoding"}


def test_every_example_is_small_and_credited():
    credited = (PICTURES / "CREDITS.md").read_text()
    pictures = {name for name in EXAMPLES if name.endswith((".jpg", ".png"))}
    assert set(re.findall(r"^\| `(\S+)` \|", credited, re.MULTILINE)) == pictures
    assert len(pictures) >= 6
    for name in pictures:
        assert len((PICTURES / name).read_bytes()) <= 60_000


def test_text_is_never_parsed_as_markup():
    parsing = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(")
    assert [name for name in FILES if name.endswith(".js") and parsing.search((WEB / name).read_text())] == []
