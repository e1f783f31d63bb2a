"""A service that is told to end finishes what it has in hand, and ends in time whatever hangs."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from workloads.common import serve

SHORT, LONG = 0.5, 600.0
"""Graces in seconds: nothing that hangs outlives the short one, and no busy machine takes the long one to end in time."""
BODIES = {
    "in time": (LONG, "while not stop: time.sleep(0.05)", 0),
    "work that goes on": (SHORT, "while True: time.sleep(0.05)", -signal.SIGALRM),
    "a lock that is never free": (SHORT, "lock = threading.Lock(); lock.acquire(); lock.acquire()", -signal.SIGALRM),
    "tidying up that hangs": (
        SHORT,
        "keep = type('Slow', (), {'__del__': lambda _: time.sleep(3600)})()\nwhile not stop: time.sleep(0.05)",
        -signal.SIGALRM,
    ),
}


@pytest.mark.parametrize("body", BODIES)
def test_a_service_ends_in_time_whatever_hangs(body: str) -> None:
    grace, text, code = BODIES[body]
    setup = f"import threading, time\nfrom workloads.common.serve import Stop\nstop = Stop({grace})\nprint('works', flush=True)\n"
    with subprocess.Popen([sys.executable, "-c", setup + text], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == code


def test_services_end_before_their_grace_in_the_cluster_is_over() -> None:
    assert serve.GRACE_SECONDS < 5.0


TOGETHER = """
import sys, time
from workloads.common.errors import RetriableError
from workloads.common.serve import Stop, run_together
stop = Stop({grace})
def patient():
    while not stop: time.sleep(0.05)
def hangs():
    while True: time.sleep(0.05)
def fails():
    raise {error}
sys.exit(run_together(stop, dict(other={other}, one=fails)))
"""


@pytest.mark.parametrize(
    ("grace", "error", "other", "code"),
    [
        (LONG, "RetriableError('Kafka is away')", "patient", 1),
        (LONG, "ValueError('a mistake')", "patient", 1),
        (LONG, "SystemExit('no port')", "patient", 1),
        (SHORT, "RetriableError('Kafka is away')", "hangs", -signal.SIGALRM),
    ],
)
def test_a_loop_that_fails_ends_its_process(grace: float, error: str, other: str, code: int) -> None:
    """What restarts processes must see it: a service with half of its loops would look alive and do half of its work."""
    text = TOGETHER.format(grace=grace, error=error, other=other)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "one ends" in done.stderr
    assert error.split("'")[1] in done.stderr


FINISHING = """
import sys, time
from workloads.common.serve import Stop, run_together
stop = Stop({grace})
def over():
    time.sleep(0.1)
def drains():
    while not stop: time.sleep(0.05)
    time.sleep({drains})
    print("drained")
sys.exit(run_together(stop, dict(other=drains, one=over)))
"""


def test_a_loop_that_is_over_ends_its_process_which_drains_as_long_as_it_takes() -> None:
    text = FINISHING.format(grace=SHORT, drains=2 * SHORT)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "drained\n")


SERVING = """
import sys
from functools import partial
from workloads.common.http import serve
from workloads.common.serve import Stop, run_together
async def application(scope, receive, send): return None
stop = Stop({grace})
sys.exit(run_together(stop, dict(http=partial(serve, application, {port}, stop))))
"""


def test_a_web_server_without_its_port_ends_its_process() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        text = SERVING.format(grace=LONG, port=taken.getsockname()[1])
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "http ends" in done.stderr


def test_a_process_that_is_told_to_end_can_say_so_while_its_work_goes_on() -> None:
    text = (
        "import os, threading\nfrom workloads.common.serve import Stop\n"
        "stop = Stop(600.0, told=lambda: (print('told', flush=True), os._exit(7)))\n"
        "print('works', flush=True)\nlock = threading.Lock(); lock.acquire(); lock.acquire()"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "told\n"
        assert process.wait() == 7
