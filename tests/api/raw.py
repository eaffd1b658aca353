"""Requests written byte by byte, as clients of every kind write them, and what comes back on the socket."""

import json
import socket

from live import PATIENCE


def request(body, *headers, line="POST /predict?top_k=1 HTTP/1.1"):
    """A request whose head says how long its body is."""
    head = [line, "Host: here", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


def chunked(body, *headers, line="POST /predict?top_k=1 HTTP/1.1", size=1000):
    """The same with a body in chunks."""
    head = "\r\n".join([line, "Host: here", *headers, "Transfer-Encoding: chunked", "", ""]).encode()
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def part(headers, data):
    """A part of a multipart body whose boundary is x."""
    return b"--x\r\n" + "\r\n".join(headers).encode() + b"\r\n\r\n" + data + b"\r\n"


def responses(client, sent, count=1):
    """(status, headers, body) of each of so many responses to what is sent on one connection, at once."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        with connection.makefile("rb") as answers:
            return [_response(answers) for _ in range(count)]


def _response(answers):
    status = int(answers.readline().split()[1])
    headers = {}
    while line := answers.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if status == 100:
        return _response(answers)
    return status, headers, json.loads(answers.read(int(headers["content-length"])))
