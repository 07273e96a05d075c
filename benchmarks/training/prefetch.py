"""Reads batches in the background while the device computes."""

import collections
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Batch = TypeVar("Batch")


class Prefetch(Generic[Item, Batch]):
    """An iterator that reads batches ahead of time in threads, in the order of the items.

    Args:
      read: item -> batch; called from several threads.
      items: finite or infinite items.
      workers: number of threads.
      ahead: maximum number of batches that are being read or waiting.
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
        # Starts to read the next batch while this one is used.
        for item in itertools.islice(self._items, 1):
            self._waiting.append(self._pool.submit(self._read, item))
        return batch

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
