"""Batches that are read in the background while the device computes."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

Item = TypeVar("Item")
Batch = TypeVar("Batch")


class Position(NamedTuple):
    """Where a run is: the whole state of its input."""

    epoch: int
    step: int
    """within the epoch, of the batch that comes next"""


_START = Position(0, 0)


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


class TrainLoader(Prefetch[Any, Batch]):
    """The batches of one epoch after another, without end.

    Args:
      read: indices of a batch -> batch.
      plan: epoch -> the indices of its batches, [S, ...]; a function of nothing else, so that
        starting at a recorded `position` gives exactly the batches that a run would have had.
      position: where to start.
      workers, ahead: see `Prefetch`.
    """

    def __init__(
        self,
        read: Callable[[Any], Batch],
        plan: Callable[[int], Any],
        *,
        position: Position = _START,
        workers: int = 4,
        ahead: int = 4,
    ) -> None:
        self.position = position
        self._plan = plan
        self._steps = len(plan(position.epoch))
        super().__init__(read, self._batches(position), workers=workers, ahead=ahead)

    def __next__(self) -> Batch:
        batch = super().__next__()
        epoch, step = self.position
        # Every epoch has as many steps as the first.
        end = step + 1 == self._steps
        self.position = Position(epoch + 1, 0) if end else Position(epoch, step + 1)
        return batch

    def _batches(self, position: Position) -> Iterator[Any]:
        skip = position.step
        for epoch in itertools.count(position.epoch):
            yield from self._plan(epoch)[skip:]
            skip = 0
