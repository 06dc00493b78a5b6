"""Takes a request from its bytes to its answer: received, decoded in a thread, answered by the model's thread."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
from starlette.requests import Request

from mailnet.deploy.service.admission import Gate, Threads
from mailnet.deploy.service.batching import Batcher
from mailnet.deploy.service.explained import explain_study
from mailnet.deploy.service.metrics import Metrics
from mailnet.deploy.service.preview import preview_study
from mailnet.deploy.service.refusal import Refused, busy, unusable
from mailnet.deploy.service.results import dicom_of, maps_of, sourced_of
from mailnet.deploy.service.served import Asked, Served
from mailnet.deploy.service.settings import STORED, Settings
from mailnet.deploy.service.study import asked_of
from mailnet.deploy.service.upload import Upload, receive
from mailnet.errors import MailnetError, RunError
from mailnet.files import write_json

T = TypeVar("T")
R = TypeVar("R")


class Desk:
    """The service without HTTP.

    Args:
        models: Name -> model.
        settings: Limits.
    """

    def __init__(self, models: Mapping[str, Served], settings: Settings) -> None:
        self.models, self.settings = models, settings
        self.gate = Gate(settings.queue, STORED * settings.max_upload)
        self.metrics = Metrics(self.gate)
        self._batchers: dict[str, Batcher[Asked, dict[str, Any]]] = {}
        self._explaining: dict[str, Batcher[Callable[[], Any], Any]] = {}

    def open(self) -> None:
        """Make what belongs to the event loop, and the private folder of uploads."""
        self._root = Path(tempfile.mkdtemp(prefix="mailnet-"))
        self._threads = Threads(max(2, os.cpu_count() or 2))
        for name, served in self.models.items():
            seen = self.metrics.batches.labels(name).observe
            self._batchers[name] = Batcher(served.predict, self.settings.batch, seen)
            self._explaining[name] = Batcher(_each, 1)
        if self.settings.keep is not None:
            self.settings.keep.mkdir(parents=True, exist_ok=True, mode=0o700)

    def close(self) -> None:
        """Remove the folder."""
        for batcher in self._batchers.values():
            batcher.close()
        for questions in self._explaining.values():
            questions.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def model(self, name: str | None) -> Served:
        """Return the model of that name; without a name the only one.

        Raises:
            Refused: There is none, or there are several.
        """
        known = ", ".join(self.models)
        if name is None and len(self.models) > 1:
            raise Refused(422, "the service has several models", f"Add ?model=NAME, one of {known}")
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Refused(404, "the service has no such model", f"It has {known}")
        return self.models[name]

    async def predict(self, request: Request, name: str | None, without: bool) -> dict[str, Any]:
        """Return the answer of ``/v1/predict``; errors as ``answer``."""
        start = time.perf_counter()
        served = self.model(name)
        read = partial(asked_of, served=served, settings=self.settings, without=without)
        found = await self.answer(request, read, self._batchers[served.name].ask)
        result = {"model": served.name, **found, "seconds": _since(start)}
        await self._keep(request, result)
        return result

    async def explain(
        self, request: Request, name: str | None, task: str | None, method: str | None, target: str | None
    ) -> bytes:
        """Return the answer of ``/v1/explain`` as JSON; errors as ``answer``."""
        served = self.model(name)
        read = partial(asked_of, served=served, settings=self.settings)

        async def explained(asked: Asked) -> bytes:
            question = partial(explain_study, served, asked, task, method, target)
            found: bytes = await self._explaining[served.name].ask(question)
            return found

        return await self.answer(request, read, explained)

    async def preview(self, request: Request, name: str | None) -> bytes:
        """Return the answer of ``/v1/preview`` as JSON; errors as ``answer``."""
        read = partial(preview_study, sections=self.model(name).sections, settings=self.settings)
        return await self.answer(request, read, _as_it_is)

    async def dicom(self, request: Request, name: str | None, heatmap: str | None) -> bytes:
        """Return the answer of ``/v1/dicom``, a zip; errors as ``answer``."""
        start = time.perf_counter()
        served = self.model(name)
        with self.gate.enter() as stored:
            upload = await self._receive(request, stored)
            try:
                with _limited(self.settings.timeout):
                    read = partial(sourced_of, upload, served, self.settings, heatmap)
                    sourced = await self._in_thread(upload, read, last=False)
                    found = await self._batchers[served.name].ask(sourced.asked)
                    make = partial(dicom_of, served, sourced, found["study"])
                    if sourced.heatmap != "none":
                        sourced.maps = await self._explaining[served.name].ask(partial(maps_of, served, sourced))
                    packed = await self._in_thread(upload, make, last=False)
                await self._keep(request, {"model": served.name, **found, "seconds": _since(start)})
                return packed
            except MailnetError as error:
                raise unusable(error) from None
            finally:
                upload.release()

    async def answer(
        self, request: Request, read: Callable[[Upload], T], then: Callable[[T], Coroutine[Any, Any, R]]
    ) -> R:
        """Receive a form, read it in a thread, and return what is made of that.

        Args:
            request: Its body has not been read.
            read: Runs in a thread; when it is done the upload is removed.
            then: What comes after.

        Raises:
            Refused: For whatever reason; of the upload nothing is left.
        """
        with self.gate.enter() as stored:
            upload = await self._receive(request, stored)
            try:
                with _limited(self.settings.timeout):
                    return await then(await self._in_thread(upload, partial(read, upload)))
            except MailnetError as error:
                raise unusable(error) from None

    async def _receive(self, request: Request, stored: Callable[[int], None]) -> Upload:
        try:
            with anyio.fail_after(self.settings.timeout):
                upload = await receive(request, self._root, self.settings, stored)
        except TimeoutError:
            raise Refused(408, f"the upload took more than {self.settings.timeout:g} seconds", "Send less") from None
        self.metrics.received.inc(upload.size)
        request.state.said = {"bytes": upload.size}
        return upload

    async def _in_thread(self, upload: Upload, function: Callable[[], T], *, last: bool = True) -> T:
        """Run what reads an upload; the last to do so removes it at its end, also where nobody waits any more."""
        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True
            if not last:
                upload.hold()

        def run() -> T:
            try:
                return function()
            finally:
                upload.release()

        try:
            return await self._threads.run(run, begin)
        finally:
            if last and not begun:
                upload.release()

    async def _keep(self, request: Request, result: dict[str, Any]) -> None:
        if self.settings.keep is None:
            return
        moment = datetime.now(timezone.utc)
        path = self.settings.keep / f"{moment:%Y%m%dT%H%M%S}-{request.state.number}.json"
        kept = {"time": moment.isoformat(timespec="seconds"), **result}
        try:
            await asyncio.to_thread(write_json, path, kept)
        except RunError as error:
            raise busy("the service cannot keep its answer, as it has to") from error


async def _as_it_is(answer: bytes) -> bytes:
    return answer


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 4)


def _each(questions: Sequence[Callable[[], Any]]) -> list[Any]:
    return [question() for question in questions]


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Refuse what is not answered in time; what its threads have begun runs on, and is thrown away."""
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        raise busy(f"the service found no answer within {seconds:g} seconds") from None
