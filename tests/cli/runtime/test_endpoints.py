"""Endpoints: what listens where, and whether it answers."""

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from bench.lib.ports import free_ports
from cli.runtime.endpoints import Ports, Sockets


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/v2/health/live" else 404)
        self.end_headers()

    def log_message(self, format, *args):  # noqa: A002 - the name that the base class has
        pass


def test_sockets_open_no_tcp_port(tmp_path):
    options = Sockets(tmp_path).options()
    assert options["allow-http"] == "false"
    assert all(str(options[f"{name}-address"]).startswith("unix:/") for name in ("grpc", "metrics"))


def test_sockets_answer_when_both_do(tmp_path):
    sockets = Sockets(tmp_path)
    assert not sockets.answer()
    with socket.socket(socket.AF_UNIX) as grpc, socket.socket(socket.AF_UNIX) as metrics:
        grpc.bind(sockets.grpc_url.removeprefix("unix:"))
        grpc.listen()
        assert not sockets.answer()
        metrics.bind(str(sockets.metrics))
        metrics.listen()
        assert sockets.answer()
    assert not sockets.answer()


def test_ports_have_a_new_secret_per_start():
    ports = Ports(1, 2, 3)
    assert ports.options()["model-control-mode"] == "none"
    assert ports.options()["http-restricted-api"] != ports.options()["http-restricted-api"]


def test_a_port_answers_while_its_server_lives():
    (http,) = free_ports(1)
    ports = Ports(http, 0, 0, host="0.0.0.0")
    assert not ports.answer()
    with socket.create_server(("127.0.0.1", http)):
        assert not ports.answer(), "a listener that says nothing hangs"
    with HTTPServer(("127.0.0.1", http), Healthy) as server:
        Thread(target=server.handle_request).start()
        assert ports.answer()
