"""A clock that tests move."""

import pytest


class Clock:
    """Tells the same time until it is moved; `tick` seconds pass whenever it is read."""

    def __init__(self, tick=0.0):
        self.now, self.tick = 0.0, tick

    def __call__(self):
        self.now += self.tick
        return self.now


@pytest.fixture
def clock():
    return Clock()
