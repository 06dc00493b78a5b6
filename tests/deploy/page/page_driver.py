"""What a user does on the page, and what the page must never do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from page_server import Service
from playwright.sync_api import ConsoleMessage, Locator, Page, Request

DIGEST = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let [sum, colour] = [0, 0];
  for (let k = 0; k < data.length; k += 4) {
    sum = (sum * 31 + data[k] + 256 * data[k + 1] + 65536 * data[k + 2]) % 4294967291;
    colour += Math.abs(data[k] - data[k + 2]) / 255;
  }
  return [sum, colour];
}"""


class Driver:
    """The page under test.

    Args:
        page: A page of a browser, not opened yet.
        service: The service that it is opened from.
    """

    def __init__(self, page: Page, service: Service) -> None:
        self.page, self.service = page, service
        self._forget()
        # From the start: a dialog that comes while the browser is only being told of the first listener is lost.
        page.on("filechooser", lambda _: None)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._request)
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url} {request.failure}"))

    def _forget(self) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.expected = {"willReadFrequently"}  # the tests' own reading of the canvas

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(part in message.text for part in self.expected):
            self.complaints.append(message.text)

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)

    def open(self) -> None:
        """Open the page afresh and wait for its models."""
        self.page.set_viewport_size({"width": 1280, "height": 800})
        self.page.emulate_media(media="screen", color_scheme="light", reduced_motion="reduce")
        self._forget()
        self.page.goto(self.service.address)
        self.page.locator(".view").first.wait_for()

    def check_calm(self) -> None:
        """Check that there were no errors, no other host, and that nothing is kept in the browser."""
        assert not self.complaints
        assert all(url.startswith(self.service.address) for url in self.requests)
        kept = "[localStorage.length, sessionStorage.length, document.cookie.length]"
        assert self.page.evaluate(kept) == [0, 0, 0]

    def view(self, name: str) -> Locator:
        """The view of a modality."""
        return self.page.locator(f'.view[data-modality="{name}"]')

    def canvas(self, name: str) -> Locator:
        """Its canvas."""
        return self.view(name).locator("canvas")

    def drop(self, files: Sequence[Path], target: Locator) -> None:
        """Drag files from the desktop and drop them on the middle of an element, as the browser itself does it."""
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        assert box is not None
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        session = self.page.context.new_cdp_session(self.page)
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
        session.detach()

    def load(self, name: str, files: Sequence[Path]) -> None:
        """Drop files on a view and wait for its picture."""
        self.drop(files, self.view(name).locator(".stage"))
        self.page.locator(f'.view.filled[data-modality="{name}"]').wait_for()

    def predict(self) -> Locator:
        """Press the button and wait for the result."""
        self.page.get_by_role("button", name="Predict").click()
        result = self.page.locator("#result:not(.outdated)")
        result.wait_for()
        self.page.locator("#predict:not([aria-busy])").wait_for()
        return result

    def pixels(self, name: str) -> tuple[int, float]:
        """A digest of what a canvas shows once it is drawn, and how much colour there is in it."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        digest, colour = self.canvas(name).evaluate(DIGEST)
        return int(digest), float(colour)

    def changed(self, name: str, before: tuple[int, float]) -> tuple[int, float]:
        """Wait until a canvas shows something else than before, and return what ``pixels`` says of it."""
        for _ in range(300):
            if (now := self.pixels(name)) != before:
                return now
        raise AssertionError(f"the image of {name} has not changed")

    def slide(self, name: str, label: str, value: float) -> None:
        """Move a slider of a view."""
        self.view(name).get_by_role("slider", name=label).fill(str(value))

    def text(self, target: str) -> str:
        """The text of an element as it is seen."""
        return self.page.locator(target).inner_text()

    def evaluate(self, script: str) -> Any:
        """Run a function in the page."""
        return self.page.evaluate(script)
