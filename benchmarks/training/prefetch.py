"""Batches that are read in the background while the device computes."""

import collections
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Batch = TypeVar("Batch")


class Prefetch(Generic[Item, Batch]):
    """Reads items ahead, in threads, and gives the results in their order.

    Args:
      read: item -> batch; called from several threads.
      items: finite or not.
      workers: threads.
      ahead: batches that are read or waiting at most.
    """

    def __init__(
        self,
        read: Callable[[Item], Batch],
        items: Iterable[Item],
        *,
        workers: int = 4,
        ahead: int = 4,
    ) -> None:
        self._read, self._items = read, iter(items)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
        self._waiting: collections.deque[Future[Batch]] = collections.deque()
        self._ahead = ahead

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        for item in itertools.islice(self._items, self._ahead - len(self._waiting)):
            self._waiting.append(self._pool.submit(self._read, item))
        if not self._waiting:
            self.close()
            raise StopIteration
        batch = self._waiting.popleft().result()
        # Its place is free at once: the next one is read while this one is used.
        for item in itertools.islice(self._items, 1):
            self._waiting.append(self._pool.submit(self._read, item))
        return batch

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
