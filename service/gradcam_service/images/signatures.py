"""Signatures of file formats, by which bytes begin: so that an error can say what was sent."""

from __future__ import annotations

import re

URL = "a URL"
NOT_FETCHED = "URLs are not fetched; send the bytes that are there, as of curl -s URL | curl -F image=@-"
"""What to say of one that is sent in the place of a picture."""
_HEAD = 1024  # bytes; an XML prologue, comments and all, fits

_SIGNATURES = [
    (name, re.compile(pattern, re.DOTALL | re.IGNORECASE))
    for name, pattern in (
        ("DICOM", rb".{128}DICM"),  # first, as what is before that may look like another format
        ("JPEG", rb"\xff\xd8\xff"),
        ("PNG", rb"\x89PNG\r\n\x1a\n"),
        ("WebP", rb"RIFF.{4}WEBP"),
        ("GIF", rb"GIF8[79]a"),
        ("BMP", rb"BM.{4}\0{4}"),
        ("TIFF", rb"II[*+]\0|MM\0[*+]"),
        ("AVIF", rb".{4}ftypavi[fs]"),
        ("HEIC", rb".{4}ftyp(hei|hev|mif1|msf1)"),
        ("JPEG 2000", rb"\0{3}\x0cjP  |\xff\x4f\xff\x51"),
        ("a Photoshop document", rb"8BPS"),
        ("a NumPy array", rb"\x93NUMPY"),
        ("PDF", rb"%PDF-"),
        ("a ZIP archive", rb"PK\x03\x04"),
        ("a gzip archive", rb"\x1f\x8b"),
        ("SVG", rb"[^\0]*<svg[\s>]"),
        (URL, rb"\s*[a-z][a-z0-9+.-]*://\S+\s*\Z"),
        ("text", rb"[^\0-\x08\x0e-\x1f]+\Z"),
    )
]


def kind(data: bytes) -> str | None:
    """The name of the format that ``data`` begins like, or None if it begins like nothing known.

    A name says nothing about whether the rest is sound, nor whether this service reads that format.
    """
    head = data[:_HEAD]
    return next((name for name, pattern in _SIGNATURES if pattern.match(head)), None)
