"""What asks for a stop, and where."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from ssl_lt.engine.signals import StopRequest
from tests.toolbox import TINY, succeed


def test_a_signal_asks_and_the_first_one_counts():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_a_thread_signals_are_those_of_the_program():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with StopRequest() as stop:
            seen.append((signal.getsignal(signal.SIGTERM), stop.signal_number))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, 0)]


@pytest.mark.slow
def test_a_closed_pipe_ends_training_with_its_state_saved(empty):
    command = [sys.executable, "-m", "ssl_lt", "pretrain", *TINY, "--epochs", "3"]
    running = subprocess.Popen(
        [*command, "--run-dir", "run", "--knn-every", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    running.stderr.close()
    assert running.wait() == 128 + signal.SIGPIPE
    assert len(list((empty / "run" / "checkpoints").glob("step-*"))) == 1
    succeed("pretrain", "--resume", "run")
    assert (empty / "run" / "exported").is_dir()
