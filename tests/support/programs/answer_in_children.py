"""Run as a program: answers in the parent, then in a child of the kind named, and compares.

``python answer_in_children.py BUNDLE KIND MODE`` exits with 0 when parent and child answered alike.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastspan import Prediction, QuestionAnswerer

QUESTION = "who built the tower"
CONTEXTS = ["the norse leader built the stone tower " * n for n in (1, 3, 5, 120)]


def answers(qa: QuestionAnswerer) -> list[Prediction]:
    pairs = [(QUESTION, context) for context in CONTEXTS]
    return [*(qa.answer(*pair, timeout=300) for pair in pairs), *qa.answer_many(pairs[:3] * 25, top_k=3)]


def by_fork(qa: QuestionAnswerer, expected: list[Prediction]) -> None:
    """The child leaves as a program does; multiprocessing's children leave by ``os._exit``."""
    time.sleep(0.5)  # by now the session's threads sleep
    idle = os.fork()
    if idle == 0:
        sys.exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(idle, 0)[1])
    assert code == 0, f"the child that did nothing ended with {code}"
    child = os.fork()
    if child == 0:
        os.chdir("/")
        code = 0 if answers(qa) == expected else 3
        # A child of a child, too.
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if answers(qa) == expected else 4)
        code = code or os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
        qa.close()
        sys.exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, f"the child ended with {code}"


@contextmanager
def busy(qa: QuestionAnswerer) -> Iterator[None]:
    """Other threads keep answering."""
    stop = threading.Event()

    def answer() -> None:
        while not stop.is_set():
            qa.answer(QUESTION, CONTEXTS[2])

    threads = [threading.Thread(target=answer) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()


def by_multiprocessing(qa: QuestionAnswerer, expected: list[Prediction], method: str) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(answers, (qa,)) == expected
        if method == "fork":
            assert pool.apply(answers_of_inherited) == expected


def answers_of_inherited() -> list[Prediction]:
    return answers(inherited)


if __name__ == "__main__":
    bundle, kind, mode = sys.argv[1:]
    inherited = QuestionAnswerer.load(os.path.relpath(bundle), variant="fp32", optimize_for=mode, threads=2)
    wanted = answers(inherited)
    if kind == "os.fork":
        by_fork(inherited, wanted)
    elif kind == "os.fork while busy":
        with busy(inherited):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if answers(inherited) == wanted else 3)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == 0, f"the child ended with {status}"
    else:
        by_multiprocessing(inherited, wanted, kind)
    assert answers(inherited) == wanted
