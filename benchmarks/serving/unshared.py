"""The service with batching off: a process whose every window has a run of its own. For comparison alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fastspan import QuestionAnswerer
from fastspan.results import Info
from fastspan.serving import Limits, Service, listen, run_server
from fastspan.stages.pairs import Stages

__all__ = ["main"]


class _Alone(Stages):
    """Stages that let no window share a run."""

    __slots__ = ()

    def share(self, lengths: Sequence[int], most: int | None = None) -> list[list[int]]:
        """As ``Stages.share``."""
        return [[index] for index in range(len(lengths))]


@dataclass(frozen=True)
class _Unshared:
    """An answerer with such stages."""

    answerer: QuestionAnswerer

    @property
    def stages(self) -> Stages:
        """The answerer's, each window in a run of its own."""
        return _Alone(self.answerer.stages.loaded)

    def info(self) -> Info:
        return self.answerer.info()

    def close(self) -> None:
        self.answerer.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a bundle until SIGTERM."""
    parser = argparse.ArgumentParser(description="FastSpan's service with batching off")
    parser.add_argument("bundle")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--max-wait-ms", type=int, default=Limits().wait_ms)
    options = parser.parse_args(arguments)
    with QuestionAnswerer.load(
        options.bundle, threads=options.threads, optimize_for="throughput"
    ) as answerer:
        service = Service(_Unshared(answerer), Limits(wait_ms=options.max_wait_ms))
        service.bundles.warm_up()
        with listen("127.0.0.1", 0) as listening:
            print(f"at http://127.0.0.1:{listening.getsockname()[1]};", file=sys.stderr, flush=True)
            run_server(service, listening)
    return 0


if __name__ == "__main__":
    sys.exit(main())
