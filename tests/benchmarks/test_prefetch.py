import itertools
import threading

import pytest

from benchmarks.errors import UserError
from benchmarks.training.prefetch import Prefetch


def test_prefetch_keeps_order_and_reads_no_further_than_asked():
    read, gate = [], threading.Event()

    def slow(item):
        read.append(item)
        if item == 0:
            gate.wait(10)  # later ones are done before it
        return item

    with Prefetch(slow, itertools.count(), workers=3, ahead=3) as prefetch:
        threading.Timer(0.05, gate.set).start()
        assert [next(prefetch) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert max(read) <= 4 + 3
    with Prefetch(lambda item: item, range(3), workers=2, ahead=5) as prefetch:
        assert list(prefetch) == [0, 1, 2]


def test_prefetch_passes_errors_on_and_ends_its_threads():
    def fail(item):
        raise UserError("damaged")

    with Prefetch(fail, range(3)) as prefetch, pytest.raises(UserError, match="damaged"):
        next(prefetch)
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]
