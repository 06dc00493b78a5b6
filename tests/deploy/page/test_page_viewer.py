"""Window, zoom and place of an image by mouse and by keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_driver import Driver
from PIL import Image
from playwright.sync_api import expect

Files = dict[str, list[Path]]


@pytest.fixture
def shown(opened: Driver, files: Files) -> Driver:
    """The page with an image on the left view, under the mouse."""
    opened.load("left", files["left"])
    opened.canvas("left").hover()
    return opened


def drag(driver: Driver, across: int, down: int, button: str = "left") -> None:
    """Drag on the image of the left view."""
    box = driver.canvas("left").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    driver.page.mouse.move(x, y)
    driver.page.mouse.down(button="right" if button == "right" else "left")
    driver.page.mouse.move(x + across, y + down, steps=3)
    driver.page.mouse.up(button="right" if button == "right" else "left")


def test_a_drag_changes_the_window_and_a_double_click_resets_it(shown: Driver) -> None:
    first, corner = shown.pixels("left"), shown.view("left").locator(".corner.bl")
    window = corner.inner_text()
    drag(shown, 60, 0)
    wider = shown.pixels("left")
    assert wider != first
    assert corner.inner_text().split("W")[0] == window.split("W")[0]  # the level stays
    drag(shown, 0, 60)
    assert shown.pixels("left") not in (first, wider)
    shown.canvas("left").dblclick()
    assert shown.pixels("left") == first
    assert corner.inner_text() == window


def test_the_wheel_zooms_where_the_mouse_is_and_a_right_drag_moves(shown: Driver) -> None:
    first, corner = shown.pixels("left"), shown.view("left").locator(".corner.br")
    shown.canvas("left").hover(position={"x": 153, "y": 307})
    under = corner.inner_text()
    shown.page.mouse.wheel(0, -240)
    near = shown.changed("left", first)
    assert corner.inner_text() == under  # the pixel under the mouse stays there
    drag(shown, 40, 25, "right")
    moved = shown.pixels("left")
    assert moved not in (first, near)
    shown.page.keyboard.down("Shift")
    drag(shown, -40, -25)
    shown.page.keyboard.up("Shift")
    assert shown.pixels("left") == near


def test_keys_do_what_the_mouse_does(shown: Driver) -> None:
    first, corner = shown.pixels("left"), shown.view("left").locator(".corner.bl")
    shown.canvas("left").focus()
    seen = {first}
    for key in ("ArrowRight", "ArrowUp", "+", "Shift+ArrowLeft", "i"):
        shown.page.keyboard.press(key)
        seen.add(shown.pixels("left"))
    assert len(seen) == 6
    expect(corner).to_contain_text("inverted")
    expect(shown.view("left").locator("[aria-live]")).to_contain_text("level")  # said to those who cannot see it
    shown.page.keyboard.press("0")
    assert shown.pixels("left") == first


def test_sliders_and_buttons_do_what_dragging_does(shown: Driver) -> None:
    view, first = shown.view("left"), shown.pixels("left")
    view.get_by_text("Adjust").click()
    plain = shown.pixels("left")  # on a canvas that became smaller
    shown.slide("left", "Level", 90)
    expect(view.locator(".corner.bl")).to_contain_text("L 90")
    shown.slide("left", "Width", 100)
    expect(view.locator(".corner.bl")).to_have_text("L 90  W 100")
    view.get_by_role("button", name="Zoom in").click()
    assert shown.pixels("left") not in (first, plain)
    view.get_by_role("button", name="Reset").click()
    assert shown.pixels("left") == plain


def test_colour_images_are_shown_in_colour(opened: Driver, files: Files) -> None:
    opened.load("left", files["colour"])
    assert opened.pixels("left")[1] > 100
    opened.canvas("left").hover()
    corner = opened.view("left").locator(".corner.br")
    expect(corner).to_contain_text(":")
    place, values = corner.inner_text().split(": ")
    x, y = (int(number) for number in place.split(", "))
    assert Image.open(files["colour"][0]).getpixel((x, y)) == tuple(int(value) for value in values.split(", "))


def test_a_window_in_which_nothing_is_seen_is_not_the_first(opened: Driver, files: Files) -> None:
    opened.page.get_by_role("combobox", name="Model").select_option("chest")
    opened.load("ct", files["series"])
    corner = opened.view("ct").locator(".corner.bl")
    expect(corner).to_contain_text("L \N{MINUS SIGN}252  W 1496")  # from -1000 to 496 HU, all that there is
    first = opened.pixels("ct")
    opened.canvas("ct").press("m")
    expect(corner).to_contain_text("L \N{MINUS SIGN}0.5  W 65535")  # what the model is said to look at
    assert opened.pixels("ct") != first
    opened.canvas("ct").press("f")
    assert opened.pixels("ct") == first


PLACE = """async ([width, height, aspect, covers]) => {
  const { HeatMap } = await import("/heat.js");
  return new HeatMap(new Uint8Array(64), [8, 8], 0, 1).place({ width, height, aspect, covers });
}"""


def test_a_heat_map_lies_where_the_network_looked(opened: Driver) -> None:
    def place(*picture: object) -> object:
        return opened.page.evaluate(PLACE, list(picture))

    assert place(100, 100, 1, None) == [[0, 1], [0, 1], [0, 1]]
    assert place(100, 50, 1, None) == [[0, 1], [-0.5, 1.5], [0, 1]]  # padded above and below
    assert place(50, 100, 1, None) == [[0, 1], [0, 1], [-0.5, 1.5]]
    assert place(100, 50, 2, None) == [[0, 1], [0, 1], [0, 1]]  # its pixels are twice as high as wide
    assert place(100, 50, 1, [[0, 1], [0.25, 0.75]]) == [[0, 1], [0, 1], [0.25, 0.75]]  # cropped, as the service says
