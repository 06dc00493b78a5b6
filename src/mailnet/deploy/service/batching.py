"""Requests that wait for the same model are answered together, in one thread that belongs to the model."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items -> as many results, where one that cannot be answered has its exception.
Answer = Callable[[Sequence[Item]], Sequence["Result | Exception"]]


class Batcher(Generic[Item, Result]):
    """Answers items by batches: all that have come while the last batch was being answered.

    Nobody waits for others to come, so a single request is as quick as without.

    Args:
        answer: Called in a thread, by one batch at a time.
        limit: Largest batch.
        seen: Told of the size of every batch.
    """

    def __init__(
        self, answer: Answer[Item, Result], limit: int, seen: Callable[[int], object] = lambda size: None
    ) -> None:
        self._answer, self._limit, self._seen = answer, limit, seen
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mailnet-model")
        self._task: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Result:
        """Return the answer to an item; who stops waiting before its batch begins is left out of it."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    def close(self) -> None:
        """End the thread once it is idle."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch: list[tuple[Item, asyncio.Future[Result]]] = []
            while self._waiting and len(batch) < self._limit:
                item, future = self._waiting.popleft()
                if not future.done():
                    batch.append((item, future))
            if not batch:
                continue
            self._seen(len(batch))
            results = await loop.run_in_executor(self._thread, self._alone, [item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _alone(self, items: list[Item]) -> Sequence[Result | Exception]:
        """Answer items together, and where that fails each by itself: an error belongs to one request."""
        try:
            return self._answer(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
            return [result for item in items for result in self._alone([item])]
