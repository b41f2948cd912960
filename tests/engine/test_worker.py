"""The one thread around the model: states, order, stops, and errors of every kind."""

import gc
import threading
import weakref

import pytest

from latte_core.engine.worker import Worker
from latte_core.errors import Cancelled, EngineBusyError, LatteError, MemoryPlanError, RequestError

TIMEOUT_S = 20


@pytest.fixture
def worker():
    made = Worker(capacity=3)
    yield made
    made.close(TIMEOUT_S)


def hold(worker):
    """A job that runs until the event it returns is set."""
    started, go = threading.Event(), threading.Event()

    def work(job):
        started.set()
        go.wait(TIMEOUT_S)
        job.check(3, 9)

    job = worker.submit(work)
    assert started.wait(TIMEOUT_S)
    return job, go


def test_events_arrive_in_order_and_end(worker):
    job = worker.submit(lambda job: [job.emit(number) for number in range(5)])
    assert list(job.events()) == [0, 1, 2, 3, 4]
    assert job.state == "finished"
    assert job.wait(TIMEOUT_S)
    assert list(job.events()) == []


def test_jobs_run_one_at_a_time_in_their_order_on_one_thread(worker):
    running, most, order, threads = 0, 0, [], set()

    def work(job, name):
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(name)
        threads.add(threading.get_ident())
        running -= 1

    jobs = [worker.submit(lambda job, n=n: work(job, n)) for n in range(3)]
    assert all(job.wait(TIMEOUT_S) for job in jobs)
    assert order == [0, 1, 2]
    assert most == 1
    assert len(threads) == 1
    assert threads.isdisjoint({threading.get_ident()})


def test_positions_and_a_full_queue(worker):
    first, go = hold(worker)
    waiting = [worker.submit(lambda job: None) for _ in range(3)]
    assert first.state == "running"
    assert [job.position for job in (first, *waiting)] == [0, 1, 2, 3]
    with pytest.raises(EngineBusyError, match="3 jobs are waiting, the limit is 3"):
        worker.submit(lambda job: None)
    go.set()
    assert all(job.wait(TIMEOUT_S) for job in waiting)
    assert [job.position for job in waiting] == [0, 0, 0]


def test_a_running_job_stops_at_its_next_check(worker):
    job, go = hold(worker)
    job.cancel()
    go.set()
    with pytest.raises(Cancelled) as caught:
        list(job.events())
    assert (caught.value.step, caught.value.total) == (3, 9)
    assert job.state == "cancelled"


def test_a_queued_job_that_is_cancelled_never_works(worker):
    _, go = hold(worker)
    touched = []
    job = worker.submit(lambda job: touched.append(1))
    job.cancel()
    go.set()
    with pytest.raises(Cancelled):
        list(job.events())
    assert touched == []


@pytest.mark.parametrize(
    "raised,expected,word",
    [
        (SystemExit(3), LatteError, "SystemExit"),
        (KeyboardInterrupt(), LatteError, "KeyboardInterrupt"),
        (GeneratorExit(), LatteError, "GeneratorExit"),
        (RecursionError("deep"), LatteError, "RecursionError: deep"),
        (ZeroDivisionError("division"), LatteError, "ZeroDivisionError"),
        (MemoryError(), MemoryPlanError, "Memory ran out"),
        (RequestError("seed", "seed is odd"), RequestError, "seed is odd"),
    ],
)
def test_any_error_is_the_jobs_own_and_the_thread_lives_on(worker, raised, expected, word):
    def work(job):
        job.emit("before")
        raise raised

    job = worker.submit(work)
    seen = []
    with pytest.raises(expected, match=word):
        for event in job.events():
            seen.append(event)
    assert seen == ["before"]
    assert job.state == "failed"
    assert worker.alive
    after = worker.submit(lambda job: job.emit("next"))
    assert list(after.events()) == ["next"]


class Tensorlike:
    """Something heavy that a weak reference can watch."""


def test_an_error_does_not_keep_the_work_alive(worker):
    watched = []

    def work(job):
        heavy = Tensorlike()
        watched.append(weakref.ref(heavy))
        raise ValueError("out of something")

    job = worker.submit(work)
    assert job.wait(TIMEOUT_S)
    worker.submit(lambda job: None).wait(TIMEOUT_S)
    gc.collect()
    assert job.error is not None
    assert watched[0]() is None


def test_closing_stops_everything_and_refuses_more():
    worker = Worker(capacity=3)
    running, go = hold(worker)
    queued = worker.submit(lambda job: None)
    closer = threading.Thread(target=worker.close)
    closer.start()
    go.set()
    closer.join(TIMEOUT_S)
    assert not closer.is_alive()
    assert running.state == queued.state == "cancelled"
    assert not worker.alive
    with pytest.raises(EngineBusyError, match="shut down"):
        worker.submit(lambda job: None)


def test_a_failing_clean_up_does_not_end_the_thread():
    calls = []

    def fail():
        calls.append(1)
        raise RuntimeError("no cache")

    worker = Worker(capacity=3, recover=fail)
    for number in range(3):
        job = worker.submit(lambda job, n=number: job.emit(1 // (n % 2)))
        assert job.wait(TIMEOUT_S)
    assert job.state == "failed"
    worker.close(TIMEOUT_S)
    assert len(calls) == 2
