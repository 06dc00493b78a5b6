"""How much is taken on at once, and threads for what would hold up the event loop."""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mailnet.deploy.service.refusal import busy

T = TypeVar("T")


class Gate:
    """Counts requests and the bytes that they have on the disk; says no where there is no room for more.

    Args:
        places: Requests at once.
        room: Bytes of all their uploads.
    """

    def __init__(self, places: int, room: int) -> None:
        self.places, self.room = places, room
        self.taken = self.stored = 0

    @contextmanager
    def enter(self) -> Iterator[Callable[[int], None]]:
        """Take a place for the time of a request; yields what has to be told of bytes that it stores.

        Raises:
            Refused: There is no place, or no room for the bytes.
        """
        if self.taken >= self.places:
            raise busy()
        self.taken += 1
        own = 0

        def store(size: int) -> None:
            nonlocal own
            if self.stored + size > self.room:
                raise busy("the service has no room for the upload now")
            own += size
            self.stored += size

        try:
            yield store
        finally:
            self.taken -= 1
            self.stored -= own


class Threads:
    """Runs functions, each in a thread of its own, so many at a time.

    Readers of files keep what they read last for their thread; with it goes what was a patient's.

    Args:
        count: Threads at once.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    async def run(self, function: Callable[[], T], started: Callable[[], object] = lambda: None) -> T:
        """Return what a function returns; a caller who gives up leaves the thread its place until it is done.

        Args:
            function: Runs to its end once it was begun.
            started: Called when it begins.
        """
        await self._free.acquire()
        started()
        future = in_thread(function)
        future.add_done_callback(self._ended)
        return await asyncio.shield(future)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._free.release()
        if not future.cancelled():
            future.exception()  # seen, even where nobody waits for it any more


def in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run a function in a new thread and return what will be its result."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        result, failure = None, None
        try:
            result = function()
        except BaseException as error:
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failure)

    # One of threading's would hold up the event loop until it runs, and the end of the process until it ends.
    _thread.start_new_thread(work, ())
    return future
