"""Read the next block of a file in a thread while the last one is used."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Block = TypeVar("Block")
Values = TypeVar("Values")


def read_ahead(read: Callable[[Block], Values], blocks: Iterable[Block]) -> Iterator[tuple[Block, Values]]:
    """Yield each block with what `read` returns for it, in order; one block more is held in memory.

    h5py, like NumPy and pyarrow, lets other threads run while it reads and decompresses.

    Args:
        read: Function that reads a block. It is called in another thread, one call at a time.
        blocks: The blocks, which are taken one ahead, in the thread of the caller.

    Raises:
        Exception: An exception of `read`, when the values of its block are due.
    """
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        waiting: tuple[Block, Future[Values]] | None = None
        try:
            for block in blocks:
                following = block, thread.submit(read, block)
                if waiting is not None:
                    yield waiting[0], waiting[1].result()
                waiting = following
            if waiting is not None:
                yield waiting[0], waiting[1].result()
        finally:
            thread.shutdown(cancel_futures=True)  # before the file is closed
