"""The examples, and the programs of the README, as they are."""

import re
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, eventually
from test_vmclock import live

from shmhot import CircBuff, hotpath
from shmhot.vmclock import Writer

FOLDER = Path(__file__).parents[1]


def programs(readme):
    return re.findall(r"^```python\n(.*?)^```$", readme.read_text(), flags=re.MULTILINE | re.DOTALL)


README = programs(FOLDER / "README.md")


@pytest.fixture
def run():
    """Starts a program, which ends with the test."""
    running = []

    def start(*arguments, **options):
        command = [sys.executable, *map(str, arguments)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options))
        return running[-1]

    yield start
    for program in running:
        program.kill()
        program.communicate()


def readme(word):
    (program,) = [program for program in README if word in program]
    return program


def connection(port):
    made = []

    def connect():
        try:
            made.append(socket.create_connection(("127.0.0.1", port), timeout=20))
        except ConnectionRefusedError:
            return False
        return True

    eventually(connect)
    return made[0]


def echo_of(client, data):
    client.sendall(data)
    answer = b""
    while len(answer) < len(data):
        answer += client.recv(1 << 16)
    return answer


@pytest.mark.skipif(not hotpath.supported(), reason=hotpath.probe().detail)
def test_echo_server(run):
    server = run(FOLDER / "examples/echo_server.py", 0)
    port = int(server.stdout.readline().rpartition(":")[2])
    with connection(port) as client, connection(port) as other:
        assert echo_of(client, b"hello") == b"hello"
        assert echo_of(other, bytes(100000)) == bytes(100000)
        assert server.stdout.readline().startswith("2 connections, ")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0


@pytest.mark.skipif(not hotpath.supported(), reason=hotpath.probe().detail)
@pytest.mark.parametrize(
    "program, answer", [(readme("HotpathRing"), b"hello"), (programs(REPOSITORY / "README.md")[0], b"HELLO")]
)
def test_the_rings_of_the_readmes(run, program, answer):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = run("-c", program.replace("7007", str(port)))
    with connection(port) as client:
        for _ in range(3):
            with connection(port) as rude:  # goes while it is being answered
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                for _ in range(100):
                    rude.send(bytes(1000))
            assert echo_of(client, b"hello") == answer
    assert server.poll() is None


def test_clock(run, tmp_path):
    page = tmp_path / "page"
    server = run(FOLDER / "examples/vmclock.py", "--serve", page)
    assert server.stdout.readline() == f"serving {page}\n"
    before = time.time_ns()
    line = run(FOLDER / "examples/vmclock.py", "-n", 1, page).stdout.read()
    date, bound, status = line.split("  ")
    assert before - 10**6 <= np.datetime64(date).astype(int) <= time.time_ns() + 10**6
    assert re.fullmatch(r"\+-\d+\.\d{6} ms", bound)
    assert status in ("synchronized\n", "freerunning\n")
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
    assert not page.exists()
    absent = run(FOLDER / "examples/vmclock.py", page, stderr=subprocess.PIPE)
    assert "No such file or directory" in absent.communicate()[1]
    assert absent.returncode == 1


def test_the_clock_of_the_readme(run, tmp_path):
    page = tmp_path / "page"
    with Writer(page) as writer:
        writer.write(live())
        program = run("-c", readme("VMClock").replace("VMClock()", f'VMClock("{page}")'))
        assert re.fullmatch(r"\d{4}-.*, at most 1\d{6} ns off\n", program.communicate(timeout=20)[0])
        assert program.returncode == 0


def test_scope(run, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    name, picture = f"shmhot-test-{uuid.uuid4()}", tmp_path / "scope.png"
    axes = {"time": {"kind": "linear", "unit": "ms"}, "ch": {"kind": "coord", "data": ["one", "two", "three"]}}
    metadata = {"dims": ["time", "ch"], "axes": axes, "buffered_axis": "time", "attrs": {"units": ["V", "V", "A"]}}
    with CircBuff(name, dtype="f4", shape=3, rate=1000, frames=2000, metadata=metadata) as stream:
        stream.write(np.random.default_rng(1).normal(size=(1500, 3)))
        program = run(FOLDER / "examples/scope.py", "--png", picture, name)
        assert program.wait(60) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20000  # an empty one has less


def test_the_stream_of_the_readme(run):
    program = run("-c", readme("CircBuff").replace('"scope"', f'"shmhot-test-{uuid.uuid4()}"'))
    lines = program.communicate(timeout=20)[0].splitlines()
    assert program.returncode == 0
    counts = [re.fullmatch(r"(\S+) s: (\d+) frames, 0 lost, .*", line).groups() for line in lines]
    assert counts[-1][0] == "0.499"
    assert sum(int(count) for _, count in counts) == 500


def test_the_observer_of_the_readme(run, tmp_path):
    program = run("-c", readme("SegmentStore"), cwd=tmp_path)
    lines = program.communicate(timeout=20)[0].splitlines()
    assert program.returncode == 0
    assert lines[0] == f"web {program.pid} ALIVE {{'requests_total': 1, 'requests_active': 1}}"
    assert lines[1] == "1"
    assert f'requests_total{{service="web",pid="{program.pid}",segment="0"}} 1' in lines
