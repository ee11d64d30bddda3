from typing import Any

from numpy.typing import NDArray

class Source:
    number: int
    frames: NDArray[Any]
    owner: Any
    noticed: int
    def __new__(
        cls,
        owner: Any,
        mirror: int,
        number: int,
        frames: NDArray[Any],
        times: int,
        view_type: type,
        chunk_type: type,
    ) -> Source: ...
    def view(self, n: int | None, /) -> Any: ...
    def read(self, n: int | None, /) -> Any: ...
    def is_intact(self, first: int, /) -> int: ...

class Part:
    source: Source
    first: int
    lost: int
    count: int
    index: int
    upper: int
    stamps: Any
    metadata_generation: int
