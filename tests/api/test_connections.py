"""Connections that are slow, endless or too many, made by hand."""

import json
import socket
import time

import psutil
import pytest

from exposed import value
from live import PATIENCE, fresh, running_lightly, until

HEAD = b"GET /livez HTTP/1.1\r\nHost: here\r\n"
OTHER = HEAD.replace(b"livez", b"healthz")


@pytest.fixture(scope="module")
def strict():
    with running_lightly(read_seconds=1, max_connections=6, cors_origins="https://a.com") as started:
        yield started


@pytest.fixture
def connect(strict):
    """Open connections to the service; closed at the end."""
    opened = []

    def connected(sent=b""):
        opened.append(socket.create_connection(("127.0.0.1", strict.client.base_url.port), timeout=PATIENCE))
        opened[-1].sendall(sent)
        return opened[-1]

    strict.client.close()  # its idle connections count, too
    until(lambda: accepted(strict), 0)
    yield connected
    for one in opened:
        one.close()


def accepted(service):
    """How many connections the API process has open, as the system says."""
    (process,) = (psutil.Process(pid) for pid in service.pids("api 0")[-1:])
    port = service.client.base_url.port
    return sum(one.status != "LISTEN" and one.laddr.port == port for one in process.net_connections("tcp"))


def crowded(service, connect, sent, question):
    """Six connections on each of which something was sent, and the answer to a question on a seventh.

    Where that takes the second after which the service may close the first of them, it begins anew.
    """
    for _ in range(100):
        until(lambda: accepted(service), 0)
        begun = time.monotonic()
        open_ones = [connect(sent) for _ in range(6)]
        answer = received(connect(question))
        if time.monotonic() - begun < 1:
            return open_ones, answer
        for one in open_ones:
            one.close()
    raise AssertionError("this machine is too slow for connections that last a second")


def received(connection):
    """All that comes until the service closes the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def answered(connection):
    """One answer, the connection left open."""
    answer = b""
    while not answer.endswith(b"}") and (part := connection.recv(65536)):
        answer += part
    return answer


def alive(connection):
    """Whether /livez has answered that all is well."""
    answer = answered(connection)
    return answer.startswith(b"HTTP/1.1 200") and answer.endswith(b'{"status":"ok"}')


def problem(answer):
    """Status and code of a response, whose form is that of every problem."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    told = json.loads(body)
    assert headers[b"content-type"] == b"application/problem+json"
    assert int(headers[b"content-length"]) == len(body)
    assert headers[b"x-request-id"].decode() == told["request_id"]
    assert told["status"] == status
    return status, told["code"], told["detail"]


def test_a_head_that_does_not_end_is_a_408(connect):
    assert problem(received(connect(HEAD))) == (408, "too_slow", "the head did not arrive within 1 s")


def test_a_second_head_that_does_not_end_is_a_408(connect):
    connection = connect(HEAD + b"\r\n")
    assert alive(connection)
    connection.sendall(HEAD)
    assert problem(received(connection))[:2] == (408, "too_slow")


def test_a_connection_on_which_nothing_is_asked_is_closed(connect):
    assert received(connect()) == b""


@pytest.mark.parametrize("media_type", [b"image/png", b"application/json", b"multipart/form-data; boundary=x"])
def test_a_body_that_does_not_end_is_a_408(connect, media_type):
    head = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\nConnection: close\r\n"
    connection = connect(head + b"Content-Type: " + media_type + b"\r\n\r\n--x")
    assert problem(received(connection)) == (408, "too_slow", "the body did not arrive within 1 s")


def test_who_leaves_while_sending_is_a_499_in_log_and_metrics(strict, connect):
    kinds = [b"image/png", b"application/json", b"multipart/form-data; boundary=x"]
    for kind in kinds:
        head = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\nContent-Type: " + kind
        connect(head + b"\r\n\r\n--x").close()
    with fresh(strict.url) as client:
        left = {"endpoint": "/predict", "status": "499"}
        until(lambda: value(client, "gradcam_requests_total", **left), len(kinds))
        until(lambda: value(client, "gradcam_rejected_total", reason="client_left"), len(kinds))

    def logged():
        return [record["problem"] for record in strict.records() if record.get("status") == 499]

    until(logged, ["client_left"] * len(kinds))


def test_what_was_refused_may_still_arrive(connect):
    connection = connect(b"POST /nothing HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\n")
    assert problem(answered(connection))[0] == 404
    connection.sendall(b"a" * 100_000 + HEAD + b"\r\n")
    assert alive(connection)


@pytest.mark.parametrize("rest", [b"a", b"\r\n"], ids=["of a body", "line breaks"])
def test_what_drips_in_after_an_answer_holds_no_connection(connect, rest):
    length = 1000 if rest == b"a" else 0
    connection = connect(f"POST /nothing HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n".encode())
    assert problem(answered(connection))[0] == 404
    connection.settimeout(0.2)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            connection.sendall(rest)
            assert connection.recv(65536) == b""
        except TimeoutError:
            continue
        except ConnectionError:
            pass
        return
    pytest.fail("it is still open")


@pytest.mark.parametrize("asked", [b"/static-offline-docs/swagger-ui-bundle.js", b"/openapi.json"])
def test_who_takes_no_answer_holds_no_connection(strict, connect, asked):
    sent = b"GET %s HTTP/1.1\r\nHost: here\r\n\r\n" % asked * 100
    _, answer = crowded(strict, connect, sent, OTHER + b"\r\n")
    assert problem(answer)[:2] == (503, "too_many_connections")
    until(lambda: received(connect(OTHER + b"Connection: close\r\n\r\n"))[:12], b"HTTP/1.1 200")


def endless(connection, begun):
    """Send far more than is accepted of a head; the answer, which comes in the middle of it."""
    connection.sendall(begun)
    for _ in range(1000):
        connection.sendall(b"a" * 1024)
    return received(connection)


def test_a_head_without_bound_is_a_431(connect):
    assert problem(endless(connect(), HEAD + b"X-Long: "))[:2] == (431, "head_too_large")


def test_a_head_without_bound_is_refused_in_the_dialect_of_its_path(connect):
    answer = endless(connect(), b"POST /v1/models/scenes:predict HTTP/1.1\r\nX-Long: ")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body).keys() == {"error"}


def test_who_wants_to_be_left_is_told_why_a_body_is_refused_while_sending_it(connect):
    for path, refused in (("/predict", (413, "too_large")), ("/nothing", (404, "no_such_path"))):
        head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 100000000\r\nConnection: close\r\n\r\n"
        assert problem(endless(connect(), head.encode()))[:2] == refused


def test_a_picture_on_a_connection_too_many_is_told_so_while_it_is_sent(strict, connect):
    picture = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 1_000_000
    assert problem(crowded(strict, connect, HEAD, picture)[1])[:2] == (503, "too_many_connections")


def test_callers_that_are_refused_take_nobodys_connection(strict, connect):
    open_ones, answer = crowded(
        strict, connect, HEAD, b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n"
    )
    assert problem(answer)[:2] == (503, "too_many_connections")  # and goes on to be heard
    open_ones[0].close()
    until(lambda: received(connect(OTHER + b"Connection: close\r\n\r\n"))[:12], b"HTTP/1.1 200")


def test_what_was_begun_for_who_sends_no_http_any_more_ends_as_if_the_caller_had_left(strict, connect):
    failed = sum("failed" in record["message"] for record in strict.records())
    with fresh(strict.url) as client:
        left = value(client, "gradcam_requests_total", endpoint="/predict", status="499")
    head = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\n"
    answer = received(connect(head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno length\r\n"))
    assert problem(answer)[:2] == (400, "malformed")
    with fresh(strict.url) as client:
        until(lambda: value(client, "gradcam_requests_total", endpoint="/predict", status="499"), left + 1)
    assert sum("failed" in record["message"] for record in strict.records()) == failed


def test_who_never_ends_a_refused_head_is_hung_up_on(strict, connect):
    connection = connect(b"\x16\x03\x01\r\n\r\n")
    assert problem(received(connection))[:2] == (400, "malformed")
    assert accepted(strict) == 1
    until(lambda: accepted(strict), 0)


def test_a_long_head_within_the_bound_is_read(connect):
    connection = connect(HEAD + b"X-Long: " + b"a" * 60_000 + b"\r\n\r\n")
    assert alive(connection)


def test_what_is_no_http_is_a_400(connect):
    assert problem(received(connect(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")))[:2] == (400, "malformed")


def test_a_browser_s_question_on_a_connection_too_many_is_answered_and_that_connection_closed(strict, connect):
    def refused():
        with fresh(strict.url) as client:
            return value(client, "gradcam_rejected_total", reason="too_many_connections")

    before = refused()
    asked = b"Origin: https://a.com\r\nAccess-Control-Request-Method: POST\r\n\r\n"
    asked = b"OPTIONS /predict HTTP/1.1\r\nHost: here\r\n" + asked
    open_ones, answer = crowded(strict, connect, HEAD + b"\r\n", asked)
    assert all(map(alive, open_ones))
    answer = answer.lower()
    assert answer.startswith(b"http/1.1 200")
    assert answer.count(b"\r\nconnection: close\r\n") == 1
    for one in open_ones:
        one.close()
    until(lambda: received(connect(OTHER + b"Connection: close\r\n\r\n"))[:12], b"HTTP/1.1 200")
    assert refused() == before


def test_one_connection_too_many_is_refused_until_another_is_closed(strict, connect):
    question = OTHER + b"Origin: https://a.com\r\n\r\n"
    open_ones, answer = crowded(strict, connect, HEAD + b"\r\n", question)
    assert all(map(alive, open_ones))
    assert problem(answer) == (503, "too_many_connections", "6 connections are open, the most that are accepted")
    assert b"\r\nretry-after: 2\r\n" in answer
    assert answer.count(b"\r\nconnection: close\r\n") == 1
    assert b"\r\naccess-control-allow-origin: https://a.com\r\n" in answer
    assert alive(connect(HEAD + b"\r\n"))
    open_ones[0].close()
    until(lambda: received(connect(OTHER + b"Connection: close\r\n\r\n"))[:12], b"HTTP/1.1 200")
