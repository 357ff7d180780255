"""Many of everything at once: children, workers, threads, signals. Each observation is kept once, under one id."""

from pathlib import Path

from sdk.tests.collector import Collector
from sdk.tests.programs import PREAMBLE, Programs

CHILDREN = 50


def test_children_that_end_without_a_word_leave_their_spans_to_the_next(
    programs: Programs, collector: Collector
) -> None:
    """`os._exit` runs nothing of ours: what was on disk by then is found by another process."""
    programs.run(
        f"""
        work("parent")
        children = []
        for number in range({CHILDREN}):
            pid = os.fork()
            if pid == 0:
                for turn in range(20): work(f"child {{number}}")
                durable()
                os._exit(0)
            children.append(pid)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
        """,
        LODESTREAM_FLUSH_INTERVAL="60",  # no child delivers anything itself
    )
    programs.run(f"work('next')\nadopted({20 * CHILDREN})")
    assert collector.kept == {"parent": 1, "next": 1, **{f"child {number}": 20 for number in range(CHILDREN)}}
    assert programs.left() == []


def test_workers_that_are_forked_before_they_serve(programs: Programs, collector: Collector) -> None:
    """As gunicorn does it: the application is loaded first, workers that die are replaced, SIGTERM ends all."""
    with programs.start(
        """
        work("loaded")
        def serve(number):
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            for request in range(40):
                work(f"request of {number}")
            durable()
            os.write(ready, b".")
            while True: time.sleep(1)

        told, ready = os.pipe()
        workers = {}
        def start(number):
            pid = os.fork()
            if pid == 0:
                try:
                    serve(number)
                except SystemExit:
                    get_client().shutdown()
                finally:
                    os._exit(0)
            workers[pid] = number
        def await_ready(workers):
            for _ in range(workers): assert os.read(told, 1) == b"."

        for number in range(4): start(number)
        work("supervising")
        await_ready(4)
        for pid in list(workers)[:2]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            start(10 + workers.pop(pid))
        await_ready(2)
        for pid in workers: os.kill(pid, signal.SIGTERM)
        for pid in workers: assert os.waitpid(pid, 0)[1] == 0
        """
    ) as process:
        _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err  # on a machine that is starved a worker may say that it leaves its spans
    programs.deliver_left()
    assert collector.kept == {
        "loaded": 1,
        "supervising": 1,
        "next": 1,
        **{f"request of {number}": 40 for number in (0, 1, 2, 3, 10, 11)},
    }


def test_tasks_of_workers_that_are_replaced_again_and_again(
    tmp_path: Path, programs: Programs, collector: Collector
) -> None:
    """As Celery does it: a pool whose children end after some tasks, forked by a thread of a parent that is busy."""
    (tmp_path / "tasks.py").write_text(
        PREAMBLE + "\ndef task(number):\n    work(f'task {number}')\n    return number\n"
    )
    with programs.start(
        """
        import multiprocessing, tasks
        stop = threading.Event()
        def beat():
            while not stop.wait(0.001): work("beat")
        threading.Thread(target=beat).start()
        with multiprocessing.get_context("fork").Pool(3, maxtasksperchild=4) as pool:
            assert pool.map(tasks.task, range(80), chunksize=1) == list(range(80))
            pool.close()
            pool.join()
        stop.set()
        """,
        PYTHONPATH=str(tmp_path),
    ) as process:
        _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err  # on a machine that is starved a child may say that it leaves its spans
    programs.deliver_left()
    kept = collector.kept
    assert kept.pop("beat") > 10
    assert kept == {"next": 1, **{f"task {number}": 1 for number in range(80)}}


def test_many_threads(programs: Programs, collector: Collector) -> None:
    programs.run(
        """
        def busy():
            for _ in range(250): work("thread")
        threads = [threading.Thread(target=busy) for _ in range(16)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        receipt = get_client().flush()
        assert (receipt.delivered, receipt.dropped) == (4000, 0), receipt
        """
    )
    assert collector.kept == {"thread": 4000}


def test_threads_that_flush_all_at_once(programs: Programs, collector: Collector) -> None:
    """Each sees its own delivered."""
    programs.run(
        """
        failed = []
        def busy(number):
            for _ in range(20): work(f"thread {number}")
            if not get_client().flush(30).delivered >= 20: failed.append(number)
        threads = [threading.Thread(target=busy, args=(number,)) for number in range(40)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert not failed
        """
    )
    assert collector.kept == {f"thread {number}": 20 for number in range(40)}


def test_signal_handlers_and_finalizers_may_end_observations(programs: Programs, collector: Collector) -> None:
    programs.run(
        """
        import gc
        class Node:
            def __init__(self):
                self.me = self
            def __del__(self):
                work("finalizer")
        signal.signal(signal.SIGALRM, lambda *_: work("signal"))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
        for _ in range(2000):
            Node()
            work("main")
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.collect()
        receipt = get_client().flush(60)
        assert receipt.complete, receipt
        """
    )
    assert (collector.kept["main"], collector.kept["finalizer"]) == (2000, 2000)
    assert collector.kept["signal"] > 10
