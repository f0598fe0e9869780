import logging
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from mmattn.errors import ConfigError
from mmattn.training.processes import rendezvous
from mmattn.training.processes.rendezvous import listen, meet

pytestmark = pytest.mark.fault("F11")


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)


@pytest.fixture
def taken():
    """A port at which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_port_that_is_taken_is_replaced_and_it_is_said(taken, monkeypatch, caplog):
    monkeypatch.setenv("MASTER_PORT", str(taken))
    with caplog.at_level(logging.WARNING), listen(1) as found:
        port = found.getsockname()[1]
    assert port != taken
    assert os.environ["MASTER_PORT"] == str(port)
    (said,) = caplog.messages
    assert f"MASTER_PORT={taken} cannot be used" in said
    assert "Address already in use" in said
    assert f"using port {port}" in said


def test_a_port_that_is_free_is_used(taken, monkeypatch, caplog):
    with listen(1) as first:
        free = first.getsockname()[1]
    monkeypatch.setenv("MASTER_PORT", str(free))
    with listen(1) as found:
        assert found.getsockname() == ("127.0.0.1", free)
    assert not caplog.messages


def test_runs_that_start_at_once_meet_at_different_ports():
    sockets = [listen(1) for _ in range(20)]
    assert len({each.getsockname()[1] for each in sockets}) == 20
    for each in sockets:
        each.close()


def test_the_port_is_held_until_the_ranks_have_met():
    listening = listen(1)
    port = int(os.environ["MASTER_PORT"])
    with ThreadPoolExecutor(2) as pool:
        second = pool.submit(meet, None, 1, 2)
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
        assert not second.done()  # it waits for rank 0
        first = pool.submit(meet, listening, 0, 2).result(timeout=60)
        second.result(timeout=60).set("word", "from rank 1")
    assert first.get("word") == b"from rank 1"
    del first, second
    with pytest.raises(ConnectionRefusedError):  # and no longer
        connect_until_refused(port)


def connect_until_refused(port):
    while True:
        socket.create_connection(("127.0.0.1", port)).close()
        time.sleep(0.02)


def test_a_rank_that_does_not_come_is_waited_for_and_named(monkeypatch):
    monkeypatch.setattr(rendezvous, "PATIENCE", timedelta(seconds=0.2))
    with pytest.raises(RuntimeError, match="rank 1"):
        meet(listen(1), 0, 2)


@pytest.mark.parametrize(
    ("address", "said"),
    [("", "trainer.num_nodes=2: set MASTER_ADDR"), ("10.0.0.1", "cannot be used")],
)
def test_several_machines_must_be_told_where_to_meet(taken, monkeypatch, address, said):
    if address:
        monkeypatch.setenv("MASTER_ADDR", address)
        monkeypatch.setenv("MASTER_PORT", str(taken))
    with pytest.raises(ConfigError, match=said):
        listen(2)


def test_a_port_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "http")
    with pytest.raises(ConfigError, match="MASTER_PORT='http'"):
        listen(1)
