"""One browser for all tests of the page, opened afresh for each; whatever it complains of fails the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_driver import Driver
from page_files import write_png, write_series
from page_server import Service, serve
from playwright.sync_api import Browser, Error, expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


expect.set_options(timeout=15_000)  # for machines that are busy


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium: the system's, or the one of ``playwright install chromium``."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=path)
        except Error as error:
            remedy = "'apt-get install chromium' or 'playwright install --with-deps chromium' installs one"
            raise RuntimeError(f"the page cannot be tested, no Chromium starts: {remedy}") from error
        yield started
        started.close()


@pytest.fixture(scope="session")
def _running() -> Iterator[Service]:
    with serve() as running:
        yield running


@pytest.fixture
def service(_running: Service) -> Service:
    """The service, which has been asked nothing yet and wants no token."""
    _running.asked.clear()
    _running.token = None
    return _running


@pytest.fixture(scope="session")
def _driver(browser: Browser, _running: Service) -> Driver:
    context = browser.new_context()
    context.set_default_timeout(15_000)
    return Driver(context.new_page(), _running)


@pytest.fixture
def opened(_driver: Driver, service: Service) -> Iterator[Driver]:
    """The page, opened afresh, with its models loaded."""
    _driver.open()
    yield _driver
    _driver.check_calm()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Files: pictures ``left`` and ``right``, one in ``colour``, a DICOM ``series``, and one that is ``broken``."""
    folder = tmp_path_factory.mktemp("files")
    broken = folder / "broken.png"
    broken.write_bytes(b"no picture at all")
    return {
        "left": [write_png(folder / "left.png")],
        "right": [write_png(folder / "right.png", seed=1)],
        "colour": [write_png(folder / "colour.png", (64, 64, 3))],
        "series": write_series(folder / "series"),
        "broken": [broken],
    }
