"""Preferences that a header like ``Accept`` states (RFC 9110, 12.4.2)."""

from __future__ import annotations


def by_preference(header: str) -> list[str]:
    """What the header names, in lower case, the most wanted first, what it refuses with q=0 left out."""
    ranked = []
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        ranked.append((name, float(quality) if quality.replace(".", "", 1).isdecimal() else 0.0))
    return [name for name, quality in sorted(ranked, key=lambda pair: -pair[1]) if quality > 0]
