"""What the tests share: real files, sockets and processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from shmhot import hotpath

REPOSITORY = Path(__file__).parents[3]


def headers():
    """The text of all headers, without comments."""
    import re

    text = "".join(path.read_text() for path in sorted((REPOSITORY / "include/shmhot").glob("*.h")))
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def eventually(condition, seconds=20):
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.005)


@contextmanager
def interrupted(seconds=0.2):
    """Sends this process SIGINT a while after the block has begun; it must end by that."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    timer.join()


def in_child(function):
    """What a function returns, as a string, in a forked child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = str(function())
        except BaseException as failure:
            answer = f"{type(failure).__name__}: {failure}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return text


@pytest.fixture
def process():
    """Starts Python programs, which end with the test."""
    running = []

    def start(program, *arguments):
        command = [sys.executable, "-c", program, *map(str, arguments)]
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for one in running:
        one.kill()
        one.communicate()


@pytest.fixture
def ring():
    if not hotpath.supported():
        pytest.skip(hotpath.probe().detail)
    with hotpath.HotpathRing() as ring:
        yield ring


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def connected(listener):
    """Both ends of a connection; the first is for the ring."""
    client = socket.create_connection(listener.getsockname(), timeout=20)
    ours, _ = listener.accept()
    with client, ours:
        yield ours, client
