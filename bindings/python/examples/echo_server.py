"""Echoes on a ring, beside the other tasks of an asyncio loop; says once a second what it does.

Usage:
    python examples/echo_server.py [PORT]
"""

import asyncio
import contextlib
import errno
import signal
import socket
import sys

from shmhot import HotpathRing
from shmhot.hotpath import Flag, Op


async def serve(ring: HotpathRing) -> None:
    async for done in ring:
        for op, fd, result, buf_id, flags in done.tolist():
            if op == Op.ACCEPT and result >= 0:
                ring.submit_recv(result)
            elif op == Op.RECV and result > 0:
                echo(ring, fd, buf_id, result)
            elif op == Op.RECV or (op == Op.SEND and not flags & Flag.ENDED):
                close(ring, fd)  # the end of the stream, or a failure


def echo(ring: HotpathRing, fd: int, buf_id: int, length: int) -> None:
    try:
        ring.send_buffer(fd, buf_id, length=length, quiet=True)
    except OSError:  # the peer does not read, too much is queued; or it has gone
        ring.release_buf(buf_id)
        close(ring, fd)


def close(ring: HotpathRing, fd: int) -> None:
    try:
        ring.submit_close(fd)
    except OSError as failure:
        if failure.errno not in (errno.ENOENT, errno.EALREADY):  # it is closed, or just being closed
            raise


async def report(ring: HotpathRing) -> None:
    before = ring.stats["syscalls"]
    while True:
        await asyncio.sleep(1)
        stats = ring.stats
        print(f"{stats['connections']} connections, {stats['syscalls'] - before} system calls/s", flush=True)
        before = stats["syscalls"]


async def main(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    print("listening on {}:{}".format(*listener.getsockname()), flush=True)
    with listener, HotpathRing() as ring:
        ring.submit_accept(listener)
        tasks = asyncio.gather(serve(ring), report(ring))
        for end in signal.SIGINT, signal.SIGTERM:
            asyncio.get_running_loop().add_signal_handler(end, tasks.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await tasks


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7007))
