"""A job's results from their workers' answers to the outbox: what failed at once, the others when storage has them.

take ──┬─ failed ──────────────────────────────────────────────▶ outbox
       └─ (what their scripts have written ──OutputFiles──▶) ──Uploader──▶ outbox
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .frames import Failure
from .output_files import OutputFiles
from .output_folder import shared_folder
from .uploader import Uploader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .fetching import Asker
    from .job import Node
    from .outbox import Outbox
    from .runner import Result
    from .waiting import Held


class Keeping:
    """Lives on the event loop."""

    def __init__(
        self,
        node: Node,
        asker: Asker,
        outbox: Outbox,
        wake: Callable[[], None],
        pause: Callable[[], float],
        held_up: Callable[[str], None],
    ) -> None:
        """`wake` is called when there is something in the outbox; `pause` and `held_up` are an Uploader's."""
        self._node = node
        self._asker = asker
        self._outbox = outbox
        self._wake = wake
        self._held_up = held_up
        self._segment = f"{node.config.node_id}-{node.jobs}"
        job_id, patience = asker.opening.job_id, node.config.acknowledgement_timeout
        self._uploader = Uploader(
            asker.storage, job_id, self._segment, node.budget, self._on_durable, pause, held_up, patience
        )
        #: Of a summary_only job whose output folder is not seen from here.
        self._files: OutputFiles | None = None

    async def output_folder(self) -> str:
        """The --output of a summary_only job: its own folder, or one of this node from which files go to storage.

        Errors: BatchmeshError, OSError.
        """
        config = self._node.config
        if folder := await shared_folder(self._asker, config.artifact_timeout):
            return folder
        own = config.work / "pools" / f"{os.getpid()}-output-{self._segment}"
        take, refuse, patience = self._uploader.add, self._on_refused, config.acknowledgement_timeout
        self._files = OutputFiles(self._asker, own, take, refuse, self._held_up, patience)
        return str(own)

    def take(self, results: list[Result]) -> None:
        """What workers have answered."""
        durable = [each for each in results if not each.kind]
        if durable:
            (self._files or self._uploader).add(durable)
        if len(durable) < len(results):
            for each in results:
                if each.kind:
                    self._add_failed(each, Failure.decoded(bytes(each.frame)))
            self._wake()

    def hurry(self) -> None:
        """No worker is busy: what there is goes at once."""
        self._uploader.hurry()

    @property
    def empty(self) -> bool:
        """Nothing waits and nothing is on its way."""
        return self._uploader.empty and (self._files is None or self._files.empty)

    def held(self) -> Iterator[Held]:
        """The attempts that the outbox has not got yet."""
        if self._files is not None:
            yield from self._files.held()
        yield from self._uploader.held()

    def drop(self) -> None:
        """Nobody wants the results any more, nor what scripts have written. end() follows."""
        if self._files is not None:
            self._files.drop()

    def end(self) -> None:
        """No more results come."""
        self._uploader.end()

    async def finish(self) -> None:
        """All workers have ended: what they have still written goes to storage."""
        if self._files is not None:
            await self._files.finish()

    def _on_durable(self, segment: str, offset: int, results: list[Result]) -> None:
        self._outbox.add_durable(segment, offset, results)
        self._wake()

    def _on_refused(self, results: list[Result], failure: Failure) -> None:
        for each in results:
            self._add_failed(each, failure)
        self._wake()

    def _add_failed(self, result: Result, failure: Failure) -> None:
        times = (result.started_us, result.run_us, result.elapsed_us)
        self._outbox.add_failed(result.attempt, failure, result.process, times)
