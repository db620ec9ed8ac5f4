import json
import os
import pickle
import socket
import threading
import time

import psutil
import pytest
import transport_actors
from conftest import KEY, has_ended, until

from supervisors.runtime.thespian.system import SystemStartError, start_system
from supervisors.wire import codec as codec_module
from supervisors.wire.frames import HEADER_SIZE, MAX_FRAME, FrameCodec, FrameReader, FrameTooLarge, Opener


class Gadget:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def connect(address):
    sock = socket.create_connection(address, timeout=10)
    sock.settimeout(10)
    return sock


def is_closed_by_peer(sock):
    """Wait for the end of the connection; nothing may come before it."""
    try:
        return sock.recv(4096) == b""
    except ConnectionResetError:
        return True


def send_all(sock, data):
    try:
        sock.sendall(data)
    except OSError:
        assert is_closed_by_peer(sock)


def addresses(running):
    return [tuple(address) for found in running.listeners().values() for address in found]


def name(address):
    host, port = address.addressDetails.sockname
    return f"{host}:{port}"


def sealed_message(running, target, message, codec=None):
    codec = codec or FrameCodec(KEY)
    sender = running.system._base.transport.myAddress
    return codec.seal(pickle.dumps((sender, message), 5), name(target))


def answer_to(codec, sock):
    """Return the acknowledgement that came: its status byte; None if the connection was closed instead."""
    reader = FrameReader(Opener(codec))
    while True:
        try:
            data = sock.recv(reader.needed)
        except ConnectionResetError:
            return None
        if not data:
            return None
        for frame in reader.frames(data):
            return frame.payload[:1]


@pytest.mark.parametrize("running", ["127.0.0.1", "127.0.0.2"], indirect=True)
def test_messages_go_round_and_every_socket_listens_on_the_given_address_only(running):
    running.round_trip()
    listeners = running.listeners()
    assert len(listeners) == 3  # admin, parent, child
    for found in listeners.values():
        assert len(found) == 1
        assert found[0].ip == running.host
    assert running.system.own_address[0] == running.host


@pytest.mark.parametrize("running", ["127.0.0.2"], indirect=True)
def test_two_addresses_of_one_host_are_two_systems(running):
    from thespian.system.transport.IPBase import TCPv4ActorAddress

    here, there = TCPv4ActorAddress("127.0.0.2", 5000), TCPv4ActorAddress("127.0.0.1", 5000)
    assert here != there
    assert not here.isSameSystem(there)
    assert str(here) != str(there)
    assert here == TCPv4ActorAddress("127.0.0.2", 5000)


def test_a_large_message_arrives(running):
    message = os.urandom(8_000_000)
    assert running.ask(running.parent, message, 20) == b"echo:" + message


def test_all_processes_end_at_shutdown(running):
    processes = running.processes()
    assert len(processes) == 3
    running.system.shutdown()
    until(lambda: all(map(has_ended, processes)))


def test_old_frames_are_not_unpickled(running, tmp_path):
    trap = tmp_path / "trap"
    pickled = pickle.dumps(Gadget(trap))
    for address in [*addresses(running), running.system.own_address]:
        with connect(address) as sock:
            send_all(sock, b"%d>" % len(pickled) + pickled)
            # This process reads only while it listens.
            running.system.listen(0.1)
            assert is_closed_by_peer(sock)
    assert not trap.exists()
    running.round_trip()


def test_a_gadget_from_a_holder_of_the_key_is_refused(running, tmp_path):
    trap = tmp_path / "trap"
    codec = FrameCodec(KEY)
    with connect(running.parent.addressDetails.sockname) as sock:
        sock.sendall(sealed_message(running, running.parent, Gadget(trap), codec))
        assert answer_to(codec, sock) == b"\x15"
    assert not trap.exists()
    running.round_trip()


@pytest.mark.parametrize(
    "data", [b"1000000000000>" + b"x" * 1000, b"1" * 5000, os.urandom(4096), b"DSX1" + b"\xff" * 44]
)
def test_garbage_is_cut_off_and_nothing_is_sent_back(running, data):
    for address in addresses(running):
        with connect(address) as sock:
            send_all(sock, data)
            assert is_closed_by_peer(sock)
    running.round_trip()


def test_refusals_are_logged_once_per_source(running):
    for _ in range(20):
        with connect(running.system.admin_address.addressDetails.sockname) as sock:
            send_all(sock, b"GET / HTTP/1.1\r\n\r\n" * 10)
            assert is_closed_by_peer(sock)
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert len(lines) == 1
    assert lines[0]["source"] == "127.0.0.1"
    assert lines[0]["event"] == "refused frame"
    assert running.log.stat().st_mode & 0o777 == 0o600


def test_a_frame_of_another_key_is_refused(running):
    codec = FrameCodec(bytes(32))
    with connect(running.parent.addressDetails.sockname) as sock:
        sock.sendall(sealed_message(running, running.parent, b"x", codec))
        assert is_closed_by_peer(sock)


def test_a_repeated_frame_is_acknowledged_and_delivered_once(running):
    target = running.system.create_root(transport_actors.Counter)
    codec = FrameCodec(KEY)
    frame = sealed_message(running, target, b"hit", codec)
    for _ in range(3):
        with connect(target.addressDetails.sockname) as sock:
            sock.sendall(frame)
            assert answer_to(codec, sock) == b"\x06"
    assert running.ask(target, b"count") == b"1"


def test_a_frame_is_refused_by_every_other_process(running):
    frame = sealed_message(running, running.parent, b"x")
    for address in addresses(running):
        if address != tuple(running.parent.addressDetails.sockname):
            with connect(address) as sock:
                send_all(sock, frame)
                assert is_closed_by_peer(sock)


def test_a_truncated_frame_is_forgotten(running):
    target = running.system.create_root(transport_actors.Counter)
    frame = sealed_message(running, target, b"hit")
    for cut in (1, HEADER_SIZE - 1, HEADER_SIZE, len(frame) - 1):
        with connect(target.addressDetails.sockname) as sock:
            sock.sendall(frame[:cut])
    assert running.ask(target, b"count") == b"0"
    with connect(target.addressDetails.sockname) as sock:
        sock.sendall(frame)
        until(lambda: running.ask(target, b"count") == b"1")


def test_a_frame_in_pieces_arrives(running):
    target = running.system.create_root(transport_actors.Counter)
    codec = FrameCodec(KEY)
    with connect(target.addressDetails.sockname) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in sealed_message(running, target, b"hit", codec):
            sock.sendall(bytes([byte]))
        assert answer_to(codec, sock) == b"\x06"
    assert running.ask(target, b"count") == b"1"


def test_too_large_a_message_is_refused_at_the_sender(running):
    with pytest.raises(FrameTooLarge, match="exceeds the frame limit of 67108864"):
        running.system.tell(running.parent, b"x" * (MAX_FRAME + 1))
    assert running.ask(running.parent, b"big", 20) == b"refused"
    running.round_trip()


def test_too_large_a_frame_is_refused_from_its_header(running):
    codec = FrameCodec(KEY, limit=2**32 - 1)
    # A header that announces one byte too many; no body of that size has to be made for it.
    counter = time.time_ns()
    head = codec_module.FIELDS.pack(codec_module.MAGIC, codec.sender, counter, MAX_FRAME + 1)
    nonce = codec_module.HEADER_NONCE + codec_module.COUNTER.pack(counter)
    head += codec._cipher.encrypt(nonce, b"", head + name(running.parent).encode())
    with connect(running.parent.addressDetails.sockname) as sock:
        sock.sendall(head)
        assert is_closed_by_peer(sock)


@pytest.mark.soak
def test_half_open_connections_cost_nothing_and_end_in_time(running):
    victim = running.parent.addressDetails.sockname
    pid = next(pid for pid, found in running.listeners().items() if tuple(found[0]) == tuple(victim))
    process = psutil.Process(pid)
    running.round_trip()
    rss, cpu, start = process.memory_info().rss, sum(process.cpu_times()[:2]), time.monotonic()
    socks = [connect(victim) for _ in range(300)]
    try:
        for _ in range(20):
            running.round_trip()
        until(lambda: sum(c.status == psutil.CONN_ESTABLISHED for c in process.net_connections("tcp")) < 75)
        for sock in socks:
            assert is_closed_by_peer(sock)
        took = time.monotonic() - start
        assert took > 4.5
        assert process.memory_info().rss - rss < 2_000_000
        assert sum(process.cpu_times()[:2]) - cpu < 0.25 * took
    finally:
        for sock in socks:
            sock.close()
    running.round_trip()


@pytest.mark.soak
def test_a_header_that_comes_slowly_is_cut_off(running):
    start = time.monotonic()
    with connect(running.parent.addressDetails.sockname) as sock:
        sock.settimeout(0.3)
        closed = False
        for byte in sealed_message(running, running.parent, b"x")[:40]:
            try:
                sock.sendall(bytes([byte]))
                closed = sock.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True
            if closed:
                break
    assert closed
    assert time.monotonic() - start > 4.5
    running.round_trip()


def test_messages_go_on_during_a_storm_of_connections(running):
    victim = running.parent.addressDetails.sockname
    stop = threading.Event()

    def storm():
        while not stop.is_set():
            socks = [connect(victim) for _ in range(20)]
            for sock in socks:
                sock.close()

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        for _ in range(10):
            running.round_trip()
    finally:
        stop.set()
        thread.join()


def test_a_port_in_use_and_a_wildcard_are_refused_at_once(running):
    with pytest.raises(SystemStartError, match=f"127.0.0.1:{running.system.admin_port}"):
        start_system("127.0.0.1", running.system.admin_port, KEY)
    with pytest.raises(ValueError, match=r"0\.0\.0\.0"):
        start_system("0.0.0.0", 0, KEY)
    with pytest.raises(ValueError, match="Admin Routing"):
        start_system("127.0.0.1", 0, KEY, {"Admin Routing": True})
