"""A graph of a released ezmsg-tools: a source of numbered frames and their sink, in their own runtime."""

import asyncio
import sys
from collections.abc import AsyncGenerator

import ezmsg.core as ez
from ezmsg.tools.shmem.shmem import ShMemCircBuff, ShMemCircBuffSettings
from ezmsg.util.messages.axisarray import AxisArray, LinearAxis
from peer import words

RATE = 1000.0


class SourceSettings(ez.Settings):
    messages: int


class Source(ez.Unit):
    SETTINGS = SourceSettings
    OUTPUT = ez.OutputStream(AxisArray)

    @ez.publisher(OUTPUT)
    async def frames(self) -> AsyncGenerator:
        for number in range(0, self.SETTINGS.messages * 10, 10):
            axes = {"time": LinearAxis(unit="s", gain=1 / RATE, offset=number / RATE)}
            yield self.OUTPUT, AxisArray(words(number, 10, 8).view("d"), ["time", "ch"], axes=axes)
            await asyncio.sleep(0.001)
        await asyncio.sleep(60)


if __name__ == "__main__":
    name, messages = sys.argv[1:]
    source = Source(SourceSettings(messages=int(messages)))
    sink = ShMemCircBuff(ShMemCircBuffSettings(shmem_name=name, buf_dur=60.0, axis="time"))
    ez.run(SOURCE=source, SINK=sink, connections=((source.OUTPUT, sink.INPUT_SIGNAL),))
