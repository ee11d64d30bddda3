"""The ring, with real sockets."""

import asyncio
import errno
import gc
import os
import socket
import threading
import time

import numpy as np
import pytest
from conftest import eventually, in_child, interrupted

from shmhot import UnhealthyError, WrongThreadError, hotpath
from shmhot.hotpath import COMMAND, COMPLETION, Backend, Command, CommandFlag, Flag, HotpathRing, Op

TIMEOUT = 20


def until(ring, op):
    """The first completion of a kind, as a tuple, and those before it."""
    before = []
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        for done in ring.wait(timeout=1).tolist():
            if done[0] == op:
                return done
            before.append(done)
    pytest.fail(f"no {op!r} came, but {before}")


def received(client, length):
    data = b""
    while len(data) < length:
        piece = client.recv(length - len(data))
        assert piece, f"the stream ended after {len(data)} of {length} bytes"
        data += piece
    return data


def test_echoes(ring, listener):
    ring.submit_accept(listener)
    clients = [socket.create_connection(listener.getsockname(), timeout=TIMEOUT) for _ in range(20)]
    message = bytes(range(256)) * 200
    for client in clients:
        threading.Thread(target=client.sendall, args=(message,)).start()
    echoed, closed = {}, 0
    while closed < len(clients):
        done = ring.wait(timeout=TIMEOUT)
        assert len(done) > 0
        for op, fd, result, buf_id, flags in done.tolist():
            if op == Op.ACCEPT:
                assert flags & Flag.MORE
                ring.submit_recv(result)
            elif op == Op.RECV and result > 0:
                assert bytes(ring.buffer(buf_id)) == message[echoed.get(fd, 0) :][:result]
                echoed[fd] = echoed.get(fd, 0) + result
                ring.send_buffer(fd, buf_id, length=result, quiet=True)
                if echoed[fd] == len(message):
                    ring.submit_close(fd)
            elif op == Op.CLOSE:
                closed += 1
    for client in clients:
        assert received(client, len(message)) == message
        client.close()
    assert set(echoed.values()) == {len(message)}


def test_completions_are_the_rings_memory(ring):
    ring.submit_timeout(1, 0)
    first = ring.wait(timeout=TIMEOUT)
    assert first.dtype == COMPLETION
    assert first.tolist() == [(Op.TIMEOUT, -1, 1, -1, 0)]
    ring.submit_timeout(2, 0)
    second = ring.wait(timeout=TIMEOUT)
    assert np.shares_memory(first, second)
    assert first["result"][0] == 2


def test_receives_into_memory_that_is_seen_in_place(ring, connected):
    ours, client = connected
    ring.submit_recv(ours)
    client.sendall(b"hello")
    _, fd, result, buf_id, flags = until(ring, Op.RECV)
    assert (fd, result, flags) == (ours.fileno(), 5, Flag.BUFFER | Flag.MORE)
    view = ring.buffer(buf_id)
    assert view.readonly
    assert (bytes(view), ring.copy_buffer(buf_id, 4)) == (b"hello", b"hell")
    assert ring.buffers()[buf_id * 8192 :][:5] == b"hello"
    assert np.shares_memory(np.frombuffer(view, np.uint8), np.frombuffer(ring.buffers(), np.uint8))
    ring.release_buf(buf_id)
    with pytest.raises(BlockingIOError):  # EALREADY
        ring.release_buf(buf_id)
    with pytest.raises(OSError):
        ring.copy_buffer(10**6, 1)


def test_waits_when_all_buffers_are_held(listener):
    if not hotpath.supported():
        pytest.skip(hotpath.probe().detail)
    with HotpathRing(n_bufs=2, buf_size=16) as ring, socket.create_connection(listener.getsockname()) as client:
        ours, _ = listener.accept()
        ring.submit_recv(ours)
        client.sendall(bytes(range(64)))
        data, held = b"", []
        while len(data) < 64:
            for op, _, result, buf_id, _ in ring.wait(timeout=TIMEOUT).tolist():
                assert (op, result > 0) == (Op.RECV, True)
                data += ring.buffer(buf_id)
                held.append(buf_id)
            if len(held) == 2 or len(data) == 64:
                ring.release_bufs(held)
                held = []
        assert data == bytes(range(64))
        with pytest.raises(OSError):
            ring.release_bufs(np.array([0, 1, 9]))
        ring.forget(ours)
        ours.close()


@pytest.mark.parametrize(
    "data", [b"bytes", bytearray(b"bytes"), memoryview(b"some bytes")[5:], np.frombuffer(b"bytes", "u1")]
)
def test_sends_what_has_bytes(ring, connected, data):
    ours, client = connected
    ring.send(ours, data)
    assert until(ring, Op.SEND)[2] == 5
    assert received(client, 5) == b"bytes"


def test_sends_without_a_copy(ring, connected):
    ours, client = connected
    body = np.arange(1 << 17, dtype="<u8")
    head = ring.pin(b"head")
    pin = ring.pin(body)
    ring.submit_send(ours, head, pin)
    del body
    gc.collect()
    reader = threading.Thread(target=lambda: results.append(received(client, 4 + (1 << 20))))
    results = []
    reader.start()
    assert until(ring, Op.SEND)[2] == 4 + (1 << 20)
    reader.join(TIMEOUT)
    assert results[0][:4] == b"head"
    assert (np.frombuffer(results[0][4:], "<u8") == np.arange(1 << 17)).all()
    ring.unpin(pin)
    with pytest.raises(ValueError, match="not pinned"):
        ring.submit_send(ours, head, pin)


def test_a_quiet_send_tells_only_a_failure(ring, connected):
    ours, client = connected
    ring.send(ours, b"x", quiet=True)
    assert len(ring.wait(timeout=0.05)) == 0
    assert received(client, 1) == b"x"
    ring.submit_shutdown(ours)
    assert until(ring, Op.SHUTDOWN)[2] == 0
    assert client.recv(1) == b""
    with pytest.raises(BrokenPipeError):
        ring.send(ours, b"x")


def test_too_much_is_refused(connected):
    if not hotpath.supported():
        pytest.skip(hotpath.probe().detail)
    ours, _ = connected
    with HotpathRing(max_queued_bytes=1000) as ring:
        ring.send(ours, bytes(10**7))
        with pytest.raises(BlockingIOError):
            ring.send(ours, bytes(1000))
        ring.submit_close(ours, 0)
        assert until(ring, Op.SEND)[2] == -errno.ECANCELED


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_connects(ring, family, tmp_path):
    where = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0), socket.AF_UNIX: str(tmp_path / "socket")}
    try:
        listener = socket.create_server(where[family], family=family)
    except OSError as failure:
        pytest.skip(f"this host has no {family!r}: {failure}")
    with listener:
        ours = socket.socket(family, socket.SOCK_STREAM)
        fd = ours.fileno()
        ring.submit_connect(ours, listener.getsockname())
        ring.send(ours, b"hello")
        assert until(ring, Op.CONNECT)[1:3] == (fd, 0)
        other, _ = listener.accept()
        with other:
            other.settimeout(TIMEOUT)
            until(ring, Op.SEND)
            assert received(other, 5) == b"hello"
            ring.submit_close(ours)
            assert ours.fileno() == -1
            assert until(ring, Op.CLOSE)[1] == fd
            assert other.recv(1) == b""


def test_a_refused_connection_is_told(ring, listener):
    address = listener.getsockname()
    listener.close()
    with socket.socket() as ours:
        ring.submit_connect(ours, address)
        assert until(ring, Op.CONNECT)[2] == -errno.ECONNREFUSED
        ring.forget(ours)


def test_an_address_is_a_number(ring):
    with socket.socket() as ours, pytest.raises(ValueError):
        ring.submit_connect(ours, ("localhost", 1))


def test_timeouts(ring):
    began = time.monotonic()
    ring.submit_timeout(2**62, 30)
    ring.submit_timeout(-5, 0.05)
    assert until(ring, Op.TIMEOUT)[2] == -5
    assert time.monotonic() - began >= 0.05
    ring.cancel_timeout(2**62)
    with pytest.raises(FileNotFoundError):
        ring.cancel_timeout(2**62)
    assert len(ring.wait(timeout=0)) == 0


def test_pauses_cancels_and_watches_the_idle(ring, connected):
    ours, client = connected
    ring.submit_recv(ours)
    ring.pause_recv(ours)
    client.sendall(b"x")
    while len(ring.wait(timeout=0.05)) > 0:
        pass
    ring.resume_recv(ours)
    ring.set_idle_timeout(ours, 0.05)
    assert until(ring, Op.RECV)[2] in (1, -errno.ETIMEDOUT)
    while until(ring, Op.RECV)[2] != -errno.ETIMEDOUT:
        pass
    ring.set_idle_timeout(ours, 0)
    ring.cancel(ours, Op.RECV)
    assert until(ring, Op.RECV)[2] == -errno.ECANCELED
    with pytest.raises(FileNotFoundError):
        ring.cancel(ours)
    ring.forget(ours)


def test_drains(ring, listener):
    ring.submit_accept(listener)
    client = socket.create_connection(listener.getsockname())
    fd = until(ring, Op.ACCEPT)[2]
    ring.drain(0.05)
    assert until(ring, Op.DRAIN)[2] == 1
    ring.drain()
    ring.submit_close(fd)
    assert until(ring, Op.DRAIN)[2] == 0
    client.close()


def test_keeps_the_sockets_that_it_was_given(ring, listener):
    address = listener.getsockname()
    other = listener.dup()
    number = other.fileno()
    ring.submit_accept(other)
    del other
    listener.close()
    gc.collect()
    with socket.create_connection(address):
        os.close(until(ring, Op.ACCEPT)[2])
    ring.submit_close(number)
    assert until(ring, Op.CLOSE)[1] == number


def test_turns(ring, connected):
    ours, client = connected
    text = np.frombuffer(b"turned", np.uint8)
    commands = np.zeros(4, COMMAND)
    commands["op"] = [Command.RECV, Command.SEND, Command.RELEASE, Command.TIMEOUT]
    commands["fd"] = [ours.fileno(), ours.fileno(), -1, -1]
    commands["data"] = [0, text.ctypes.data, 0, 77]
    commands["len"] = [0, len(text), 0, 60000]
    commands["buf_id"] = [0, 0, 5, 0]
    commands["flags"][1] = CommandFlag.QUIET
    ring.turn(commands, timeout=0)
    assert commands["status"].tolist() == [0, 0, -errno.EALREADY, 0]
    assert received(client, 6) == b"turned"
    client.sendall(b"x")
    assert until(ring, Op.RECV)[2] == 1
    for wrong in np.zeros((2, 2), COMMAND), np.zeros(2, COMPLETION), np.zeros(2):
        with pytest.raises(TypeError, match="array of COMMAND"):
            ring.turn(wrong)
    ring.forget(ours)


def test_other_threads_wake_and_nothing_else(ring):
    ring.flush()
    woken = threading.Timer(0.1, ring.wake)
    woken.start()
    assert ring.wait(timeout=TIMEOUT)["op_kind"].tolist() == [Op.WAKE]
    woken.join()
    refused = []

    def intrude():
        try:
            ring.wait(timeout=0)
        except WrongThreadError as failure:
            refused.append((failure, ring.healthy, ring.backend))

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert refused[0][1:] == (True, Backend.IO_URING)


def test_any_thread_may_use_a_ring_that_is_made_for_it():
    if not hotpath.supported():
        pytest.skip(hotpath.probe().detail)
    with HotpathRing(any_thread=True) as ring:
        ring.submit_timeout(1, 0)
        seen = []
        thread = threading.Thread(target=lambda: seen.extend(ring.wait(timeout=TIMEOUT)["result"].tolist()))
        thread.start()
        thread.join()
        assert seen == [1]


def test_an_interrupt_ends_a_wait(ring):
    with interrupted():
        ring.wait()
    assert ring.healthy


def test_closing_ends_the_wait_of_another(ring):
    ended = []

    def wait():
        ended.append(ring.wait()["op_kind"].tolist())

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    ring.close()
    thread.join(TIMEOUT)
    assert ended == [[Op.WAKE]]
    with pytest.raises(ValueError, match="this HotpathRing is closed"):
        ring.wait()


def test_closing_leaves_descriptors_open(ring, listener, connected):
    ours, client = connected
    ring.submit_accept(listener)
    ring.submit_recv(ours)
    ring.flush()
    ring.close()
    ours.sendall(b"x")
    assert received(client, 1) == b"x"
    with socket.create_connection(listener.getsockname()):
        listener.settimeout(TIMEOUT)
        listener.accept()[0].close()


def test_received_bytes_outlive_the_ring(ring, connected):
    ours, client = connected
    ring.submit_recv(ours)
    client.sendall(b"hello")
    view = ring.buffer(until(ring, Op.RECV)[3])
    ring.close()
    gc.collect()
    assert bytes(view) == b"hello"


def test_a_ring_that_is_given_up_says_so(ring):
    ring.force_unhealthy()
    assert not ring.healthy
    with pytest.raises(UnhealthyError):
        ring.wait()


def test_a_child_makes_its_own(ring):
    ring.flush()
    assert in_child(lambda: ring.wait(timeout=0)).startswith("ForkError: ")
    assert in_child(ring.close) == "None"
    assert in_child(lambda: HotpathRing().wait(timeout=0).tolist()) == "[]"
    ring.submit_timeout(1, 0)
    assert until(ring, Op.TIMEOUT)[2] == 1


def test_counts_what_it_does(ring, connected):
    ours, client = connected
    before = ring.stats
    assert (before["connections"], before["in_flight"]) == (0, 0)
    ring.submit_recv(ours)
    client.sendall(b"x")
    until(ring, Op.RECV)
    after = ring.stats
    assert (after["connections"], after["buffers_held"]) == (1, 1)
    assert after["syscalls"] > before["syscalls"]
    ring.forget(ours)


def test_says_what_the_kernel_offers(ring):
    probe = hotpath.probe()
    assert (probe.supported, probe.errno, probe.detail) == (True, 0, "")
    assert "multishot receive" in probe.features


@pytest.mark.parametrize("size", [{"n_bufs": 3}, {"queue_depth": 10**6}])
def test_sizes_that_cannot_be(size):
    if not hotpath.supported():
        pytest.skip(hotpath.probe().detail)
    with pytest.raises(OSError, match=next(iter(size))):
        HotpathRing(**size)
    for name in "queue_depth", "n_bufs", "buf_size", "batch":
        with pytest.raises(ValueError, match=f"{name} is 0, and must be positive"):
            HotpathRing(**{name: 0})


def test_a_descriptor_that_is_none(ring):
    with pytest.raises(OSError, match="-1") as failure:
        ring.submit_recv(-1)
    assert failure.value.errno == errno.EBADF


def test_beside_other_tasks_of_asyncio(ring, listener):
    async def serve():
        async for done in ring:
            for op, fd, result, buf_id, _ in done.tolist():
                if op == Op.ACCEPT:
                    ring.submit_recv(result)
                elif op == Op.RECV and result > 0:
                    ring.send(fd, bytes(ring.buffer(buf_id)).upper(), quiet=True)
                    ring.release_buf(buf_id)
                elif op == Op.RECV:
                    ring.submit_close(fd)

    async def ask(number):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        for turn in range(5):
            writer.write(f"client {number}, turn {turn}\n".encode())
            assert await reader.readline() == f"CLIENT {number}, TURN {turn}\n".encode()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    async def main():
        ring.submit_accept(listener)
        server = asyncio.create_task(serve())
        await asyncio.wait_for(asyncio.gather(*map(ask, range(10))), 3 * TIMEOUT)
        server.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server

    asyncio.run(main())
    eventually(lambda: ring.wait(timeout=0.01) is not None and ring.stats["connections"] == 0)
