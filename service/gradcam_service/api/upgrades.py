"""Uvicorn's protocol, which stays with HTTP/1.1 whatever other protocol a caller offers to speak."""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class IgnoringUpgrades(HttpToolsProtocol):
    """Uvicorn's protocol for one connection, deaf to ``Upgrade``, which a server may ignore (RFC 9110, 7.8).

    llhttp takes whatever follows a head that offers an upgrade for the other protocol, so that the body is lost, and
    has no switch for it. Every Java HttpClient offers h2c with its first request, ``curl --http2`` too. So such a head
    is passed over, and parsed a second time without the offer.

    Args:
        given: what uvicorn gives.
    """

    def __init__(self, **given: Any) -> None:  # noqa: ANN401  uvicorn's own business
        super().__init__(**given)
        self._new_parser()

    def data_received(self, data: bytes) -> None:
        """Parse what arrives."""
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        """Hand a request over, but not one that offers an upgrade."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request's body, but not that of one which offers an upgrade: what llhttp takes for it has none."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _parse(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offered:
                rest = rest[offered.args[0] :]
            head = self._head_without_offer()
            self._new_parser()  # after "Connection: close" the old one would read nothing more
            self.parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            raise httptools.HttpParserError("this is no proxy")
        kept = [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([b"%s %s HTTP/%s" % (method, self.url, version), *kept, b"", b""])

    def _new_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
