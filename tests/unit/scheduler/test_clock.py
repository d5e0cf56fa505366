"""The Machine's clock: what the process slept through is nobody's delay."""

from __future__ import annotations

from batchmesh.scheduler.clock import AwakeClock


def test_time_passes_as_long_as_the_clock_is_read() -> None:
    clock = AwakeClock(gap=1.0)
    assert [clock.at(now) for now in (50.0, 50.9, 51.8, 52.5)] == [50.0, 50.9, 51.8, 52.5]


def test_a_sleep_does_not_pass() -> None:
    clock = AwakeClock(gap=1.0)
    assert [clock.at(now) for now in (50.0, 50.5, 650.5, 651.0, 700.0, 700.5)] == [50.0, 50.5, 50.5, 51.0, 51.0, 51.5]
