"""Plots a stream while it is written: its last seconds, by channel, with the names and units that it tells of.

Usage:
    python examples/scope.py [--seconds S] NAME
    python examples/scope.py [--seconds S] --png FILE NAME
"""

import argparse
import sys
from typing import Any, NamedTuple, Optional

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.animation import FuncAnimation
from numpy.typing import NDArray

from shmhot import Mirror
from shmhot.circbuf import Format

MOST = 16  # plots, of streams whose channels have no units


class Channel(NamedTuple):
    place: int
    label: str
    unit: str


class History:
    """The last seconds of a stream."""

    def __init__(self, mirror: Mirror, seconds: float) -> None:
        self.mirror, self.seconds = mirror, seconds
        self.times: NDArray[np.float64] = np.empty(0)
        self.frames: NDArray[np.float64] = np.empty((0, 0))
        self.lost = 0

    def update(self) -> None:
        chunk = self.mirror.read()
        if len(chunk) == 0:
            return
        frames: NDArray[Any] = chunk.frames.reshape(len(chunk), -1)
        frames = np.abs(frames) if frames.dtype.kind == "c" else frames.astype(float)
        times = chunk.times
        if np.isnan(times[0]):
            times = chunk.first + np.arange(len(chunk), dtype=float)  # neither timestamps nor a rate
        if chunk.lost:
            # A line has a gap where a point is no number.
            times, frames = np.insert(times, 0, times[0]), np.insert(frames, 0, np.nan, axis=0)
            self.lost += chunk.lost
        if frames.shape[1] != self.frames.shape[1]:
            self.times, self.frames = np.empty(0), np.empty((0, frames.shape[1]))
        self.times, self.frames = np.concatenate([self.times, times]), np.concatenate([self.frames, frames])
        begin = np.searchsorted(self.times, self.times[-1] - self.seconds)
        self.times, self.frames = self.times[begin:], self.frames[begin:]


def channels(format: Format, metadata: Optional[dict[str, Any]]) -> list[Channel]:
    """What the numbers of a frame are. Of frames of several dimensions, the coordinates of the last one are told."""
    count = int(np.prod(format.shape))
    labels, units = [str(index) for index in range(count)], [""] * count
    if metadata is not None:
        dims = metadata["dims"]
        axis = metadata["axes"].get(dims[-1], {}) if dims else {}
        data = axis.get("data")
        if data is not None and len(data) == count:
            names = data["label"] if data.dtype.names and "label" in data.dtype.names else data
            labels = [str(name) for name in names]
        given = metadata["attrs"].get("units", metadata["attrs"].get("unit", ""))
        units = [given] * count if isinstance(given, str) else [str(unit) for unit in given]
    return [Channel(*channel) for channel in zip(range(count), labels, units)]


class Scope:
    """Plots one above the other: one for each unit, or for each channel when these have none."""

    def __init__(self, name: str, history: History) -> None:
        self.name, self.history = name, history
        self.figure = pyplot.figure(figsize=(11, 8), layout="constrained")
        self.lines: list[tuple[Channel, Any]] = []
        self.plots: list[Any] = []
        self.format: Optional[Format] = None

    def arrange(self) -> None:
        """For the format and the metadata as they are now."""
        self.format = self.history.mirror.format
        if self.format is None:
            return
        metadata = self.history.mirror.metadata
        groups: dict[str, list[Channel]] = {}
        for channel in channels(self.format, metadata):
            groups.setdefault(channel.unit or channel.label, []).append(channel)
        shown = list(groups.values())[:MOST]
        self.figure.clear()
        self.plots = list(self.figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0])
        self.lines = []
        for plot, group in zip(self.plots, shown):
            for channel in group:
                self.lines.append((channel, plot.plot([], [], linewidth=0.8, label=channel.label)[0]))
            plot.set_ylabel(group[0].unit or group[0].label)
            plot.grid(alpha=0.3)
            plot.margins(x=0)
            if group[0].unit:
                plot.legend(loc="upper left", ncols=len(group))
        axis = metadata["axes"].get(metadata["buffered_axis"], {}) if metadata else {}
        self.plots[-1].set_xlabel(f"{axis.get('unit') or 's'} before the last frame")

    def draw(self, _frame: object = None) -> list[Any]:
        self.history.update()
        if self.history.mirror.format != self.format:
            self.arrange()
        if self.format is None or len(self.history.times) == 0:
            return []
        times = self.history.times - self.history.times[-1]
        for channel, line in self.lines:
            line.set_data(times, self.history.frames[:, channel.place])
        for plot in self.plots:
            plot.relim()
            plot.autoscale_view()
        key = self.format.key or self.name
        lost = f", {self.history.lost} frames lost" if self.history.lost else ""
        self.figure.suptitle(f"{key}: {self.format.rate:g} frames a second{lost}")
        return [line for _, line in self.lines]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0, help="how many are shown")
    parser.add_argument("--png", metavar="FILE", help="save what the ring holds as a picture, and end")
    parser.add_argument("name", help="of the stream")
    arguments = parser.parse_args()
    if arguments.png is not None:
        matplotlib.use("agg")
    with Mirror(arguments.name) as mirror:
        scope = Scope(arguments.name, History(mirror, arguments.seconds))
        mirror.on_metadata = lambda _: scope.arrange()
        try:
            if arguments.png is None:
                # It ends when the window is closed.
                animation = FuncAnimation(scope.figure, scope.draw, interval=50, cache_frame_data=False)
                pyplot.show()
                del animation
            else:
                mirror.wait(timeout=10)
                scope.draw()
                scope.figure.savefig(arguments.png)
        except OSError as failure:
            sys.exit(f"{arguments.name}: {failure.strerror}")
        except EOFError as failure:
            sys.exit(f"{arguments.name}: {failure}")


if __name__ == "__main__":
    main()
