"""Ports: whose they are."""

import os
import socket

from cli.runtime.ports import HOST, Ports, answers, free_ports, listens


def test_free_ports_differ_and_are_free():
    ports = free_ports()
    assert len(set(ports)) == 3
    for port in ports:
        socket.create_server((HOST, port)).close()


def test_only_the_process_that_listens_on_all_of_them_has_them():
    sockets = [socket.create_server((HOST, 0)) for _ in range(3)]
    ports = Ports(*(opened.getsockname()[1] for opened in sockets))
    assert listens(os.getpid(), ports)
    assert not listens(os.getppid(), ports)
    sockets[1].close()
    assert not listens(os.getpid(), ports)
    sockets[0].close()
    sockets[2].close()


def test_a_port_answers_while_somebody_listens():
    ports = free_ports()
    assert not answers(ports)
    with socket.create_server((HOST, ports.grpc)):
        assert answers(ports)


def test_no_such_process():
    assert not listens(2**22 + 1, free_ports())
