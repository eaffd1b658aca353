"""Requests of the Open Inference Protocol written by hand, and what comes back, by the protocol's own text."""

import base64
import json
import struct

import numpy as np

LENGTH = "Inference-Header-Content-Length"
TYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


def elements(values):
    """Elements of BYTES, each behind its length."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def binary(*inputs, **members):
    """Body and head of a request whose inputs, each (name, datatype, shape, bytes), follow its JSON."""
    said = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        for name, datatype, shape, data in inputs
    ]
    text = json.dumps({"inputs": said, **members}).encode()
    return {"content": text + b"".join(data for *_, data in inputs), "headers": {LENGTH: str(len(text))}}


def pictures(*files, **members):
    """Body and head of a request with files of pictures, in binary."""
    return binary(("image", "BYTES", [len(files), 1], elements(files)), **members)


def in_json(*files, **members):
    """The same in JSON."""
    data = [base64.b64encode(file).decode() for file in files]
    return {
        "json": {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [len(files)], "data": data}], **members}
    }


def tensors(response):
    """The outputs of an answer by name: numbers as arrays, elements of BYTES as a nested list of bytes or text."""
    assert response.status_code == 200, response.text[:500]
    length, body = response.headers.get(LENGTH), response.content
    kind = "application/json" if length is None else "application/octet-stream"
    assert response.headers["content-type"] == kind
    said = json.loads(body[: int(length)] if length else body)
    rest = body[int(length) :] if length else b""
    found = {}
    for output in said["outputs"]:
        size, shape = output.get("parameters", {}).get("binary_data_size"), output["shape"]
        if size is None:
            values = output["data"]
        elif output["datatype"] == "BYTES":
            values = _elements(rest[:size])
        else:
            values = np.frombuffer(rest[:size], TYPES[output["datatype"]])
        rest = rest[size or 0 :]
        if output["datatype"] != "BYTES":
            values = np.asarray(values, TYPES[output["datatype"]])
            found[output["name"]] = values.reshape(shape)
        else:
            assert len(values) == np.prod(shape)
            found[output["name"]] = values
    assert rest == b""
    return found


def error(response, status):
    """The text of an answer that must be that error."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json"), response.text
    body = response.json()
    assert body.keys() == {"error"}
    return body["error"]


def _elements(data):
    found = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        assert len(data) >= 4 + length
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found
