"""Prints the time of a clock page, and how sure it is, once a second. Where no hypervisor provides a page, --serve
makes one from the host's own clock and keeps it up to date.

Usage:
    python examples/vmclock.py [-n COUNT] [PATH]
    python examples/vmclock.py --serve PATH
"""

import argparse
import contextlib
import itertools
import signal
import sys
import time
from typing import Optional

from shmhot import VMClock
from shmhot.vmclock import Calibrator, Time, Writer


def print_times(path: Optional[str], count: Optional[int]) -> None:
    with VMClock(path) as clock:
        marker = clock.now().disruption_marker
        for line in itertools.count(1):
            now = clock.now()
            if now.disruption_marker != marker:
                print("-- the clock was disrupted")
                marker = now.disruption_marker
            print(f"{date(now)}  {bound(now)}  {now.status.name.lower()}", flush=True)
            if line == count:
                return
            time.sleep(1)


def date(now: Time) -> str:
    if now.utc is None:
        return f"{now.time_ns} ns"
    text = str(now.utc)
    return text[:17] + "60" + text[19:] if now.is_leap_second else text


def bound(now: Time) -> str:
    return "unbounded" if now.maxerror_ns is None else f"+-{now.maxerror_ns / 1e6:.6f} ms"


def serve(path: str) -> None:
    with Writer(path) as writer, Calibrator() as calibrator:
        writer.write(calibrator.measure().page)
        print(f"serving {path}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(1)
                writer.write(calibrator.measure().page)
        writer.remove()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, metavar="COUNT", help="how many times; without end unless given")
    parser.add_argument("--serve", action="store_true", help="make a page instead")
    parser.add_argument("path", nargs="?", help="of the page, by default /dev/vmclock0")
    arguments = parser.parse_args()
    if arguments.serve and arguments.path is None:
        parser.error("--serve needs a path")
    try:
        if arguments.serve:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            serve(arguments.path)
        else:
            print_times(arguments.path, arguments.n)
    except OSError as failure:
        sys.exit(failure.strerror)


if __name__ == "__main__":
    main()
