"""Uvicorn's HTTP/1.1 protocol, with time limits for each connection."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from proxy.connections import Gate, client_of
from proxy.errors import RETRY_AFTER_S, error_body

REFUSAL_MESSAGE = "The server has too many connections; try again soon."
REFUSAL_BODY = json.dumps(error_body(503, REFUSAL_MESSAGE, "server_busy", None))
REFUSAL = (
    f"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: {RETRY_AFTER_S}\r\n"
    f"content-type: application/json\r\ncontent-length: {len(REFUSAL_BODY)}\r\n\r\n{REFUSAL_BODY}"
).encode()


@dataclass(frozen=True)
class ConnectionTimeouts:
    """Seconds to receive a request's head, and seconds without the client reading."""

    head_s: float
    send_s: float


class BoundedProtocol(H11Protocol):
    """Closes a connection whose client takes too long to send a head, or does not read.

    `proxy.intake` bounds the time of a body. The rest of a body after the response has the time of
    a head.
    """

    transport: asyncio.Transport

    def __init__(self, *args: Any, gate: Gate, timeouts: ConnectionTimeouts, **options: Any):
        super().__init__(*args, **options)
        self.client_key = ""
        self._gate = gate
        self._timeouts = timeouts
        self._admitted = False
        self._awaiting: asyncio.TimerHandle | None = None  # a head, or the rest of a body
        self._sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.client_key = client_of((transport.get_extra_info("peername") or ("",))[0])
        self._admitted = self._gate.admit(self)
        super().connection_made(transport)
        if self._admitted:
            self._watch()
        else:
            transport.write(REFUSAL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._awaiting, self._sending):
            if timer:
                timer.cancel()
        if self._admitted:
            self._gate.leave(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def drop(self) -> None:
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sending = self.loop.call_later(
            self._timeouts.send_s, self._check_sending, self._unsent()
        )

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._sending:
            self._sending.cancel()
            self._sending = None

    def _watch(self) -> None:
        """Start or stop the timer for data that the client should send."""
        if self.transport.is_closing():
            return
        answered = self.cycle is None or self.cycle.response_complete
        between = answered and self.conn.their_state is h11.IDLE
        if between:
            self._gate.idle(self)
        else:
            self._gate.busy(self)
        # Between requests, Uvicorn's own timer runs until the first byte of the next one.
        head = between and self.timeout_keep_alive_task is None
        if head or (answered and self.conn.their_state is h11.SEND_BODY):
            self._awaiting = self._awaiting or self.loop.call_later(
                self._timeouts.head_s, self.drop
            )
        elif self._awaiting:
            self._awaiting.cancel()
            self._awaiting = None

    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def _check_sending(self, unsent: int) -> None:
        """Close the connection if at least ``unsent`` bytes are still unsent, else wait again."""
        if self._unsent() >= unsent:
            self.drop()
        else:
            self._sending = self.loop.call_later(
                self._timeouts.send_s, self._check_sending, self._unsent()
            )
