"""Code that does not end is stopped, and nothing is left behind by code that does."""

import signal
import threading
import time

import pytest

from unveil.time_limit import TookTooLong, time_limit


def test_code_that_does_not_end_is_stopped():
    start = time.monotonic()
    with pytest.raises(TookTooLong, match=r"longer than 0\.05 seconds"), time_limit(0.05):
        sum(1 for _ in iter(int, 1))
    assert time.monotonic() - start < 5


def test_the_handler_and_the_timer_of_before_are_back_after_the_block():
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(5):
        pass
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_another_thread_runs_without_a_limit():
    seen = []

    def work():
        with time_limit(0.01):
            time.sleep(0.05)
        seen.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
