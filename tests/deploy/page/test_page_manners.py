"""What the page owes to all: errors with a remedy, keys alone, names and contrast, paper, a token, small screens."""

from __future__ import annotations

import json
from pathlib import Path

from page_driver import Driver
from page_server import POLICY
from playwright.sync_api import expect

Files = dict[str, list[Path]]
# Controls without a name, and text whose contrast with the ground under it is too low (WCAG 2.2, 1.4.3).
UNNAMED = """() => [...document.querySelectorAll("button,input,select,canvas,summary,section,dialog,article,form")]
  .filter(one => one.checkVisibility())
  .filter(one => !(one.getAttribute("aria-label") || one.labels?.[0]?.textContent.trim() || one.textContent.trim()
    || document.getElementById(one.getAttribute("aria-labelledby"))))
  .map(one => one.outerHTML.slice(0, 90))"""
FAINT = """() => {
  const channels = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, w, k) => {
    const v = c[k] / 255;
    return sum + w * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  }, 0);
  const ground = one => {
    for (; one; one = one.parentElement) {
      const c = channels(getComputedStyle(one).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !one.checkVisibility() || one.closest(".outdated")) continue;
    const [a, b] = [light(channels(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.push([walker.currentNode.textContent.trim(), (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""


def test_errors_say_what_is_wrong_and_what_to_do(opened: Driver, files: Files) -> None:
    opened.expected.add("400")  # the browser writes failed requests to the console
    opened.page.get_by_role("button", name="Predict").click()
    alert = opened.page.locator("#problem")
    expect(alert).to_contain_text("There is nothing to predict from.")
    assert not [one for one in opened.service.asked if one.path == "/v1/predict"]
    age = opened.page.get_by_role("textbox", name="age")
    age.fill("old")
    opened.page.get_by_role("button", name="Predict").click()
    expect(alert).to_contain_text('"old" is not a number.')
    expect(age).to_be_focused()
    age.fill("51")
    expect(alert).to_be_empty()
    opened.drop(files["broken"], opened.view("left").locator(".stage"))
    expect(opened.view("left").locator(".problem")).to_contain_text("left: is no image that can be read")
    expect(opened.view("left").locator(".problem")).to_contain_text("Send DICOM, PNG, JPEG or TIFF")
    expect(opened.page.locator("#status")).to_have_text(
        "left: is no image that can be read. Send DICOM, PNG, JPEG or TIFF."
    )
    opened.predict()
    assert "left" not in opened.service.last("/v1/predict").form  # what was refused is not sent again


def test_everything_can_be_done_with_keys_alone(opened: Driver, files: Files) -> None:
    keys = opened.page.keyboard
    passed = []

    def go_to(name: str) -> None:
        for _ in range(40):
            keys.press("Tab")
            focused = "() => { const one = document.activeElement; return one.ariaLabel || one.name || one.innerText; }"
            passed.append(str(opened.evaluate(focused)))
            outline = "() => getComputedStyle(document.activeElement).outlineStyle"
            assert opened.evaluate(outline) == "solid", f"the focus on {passed[-1]} is not seen"
            if passed[-1].startswith(name):
                return
        raise AssertionError(f"{name} is not reached: {passed}")

    go_to("Skip to")
    go_to("Open files of left")
    with opened.page.expect_file_chooser() as chooser:
        keys.press("Enter")
    chooser.value.set_files(files["left"])
    opened.page.locator('.view.filled[data-modality="left"]').wait_for()
    go_to("left: 128 by 96 pixels")
    before = opened.pixels("left")
    keys.press("ArrowUp")
    assert opened.pixels("left") != before
    go_to("age")
    keys.type("51")
    go_to("Predict")
    keys.press("Enter")
    opened.page.locator("#result .answer").first.wait_for()
    go_to("Show heat map")
    keys.press("Space")
    opened.page.locator(".legend").wait_for()
    assert json.loads(opened.service.last("/v1/explain").form["table"][0]) == {"age": 51}
    keys.press("Control+Enter")
    expect(opened.page.locator(".legend")).to_have_count(0)
    opened.page.get_by_role("button", name="Keys").press("Enter")
    expect(opened.page.get_by_role("dialog", name="Mouse and keys")).to_be_visible()
    keys.press("Escape")
    expect(opened.page.get_by_role("button", name="Keys")).to_be_focused()


def test_all_has_names_and_contrast_in_both_themes(opened: Driver, files: Files) -> None:
    opened.load("left", files["left"])
    opened.load("right", files["right"])
    opened.predict()
    opened.page.get_by_role("button", name="Show heat map").click()
    opened.page.locator(".legend").wait_for()
    grounds = []
    for theme in ("Dark", "Light"):
        opened.page.get_by_role("button", name=f"{theme} theme").click()
        grounds.append(opened.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        assert opened.evaluate(FAINT) == []
        assert opened.evaluate(UNNAMED) == []
    assert grounds[0] != grounds[1]
    assert opened.evaluate("() => document.querySelectorAll('h1').length") == 2  # that of paper is not on the screen
    assert opened.evaluate("() => document.documentElement.lang") == "en"


def test_a_narrow_screen_is_not_wider_than_itself(opened: Driver, files: Files) -> None:
    opened.page.set_viewport_size({"width": 390, "height": 844})
    opened.load("left", files["left"])
    opened.load("right", files["right"])
    opened.predict()
    opened.page.get_by_role("button", name="Show heat map").click()
    opened.page.locator(".legend").wait_for()
    assert opened.evaluate("() => document.documentElement.scrollWidth") == 390
    left, right = (opened.view(name).bounding_box() for name in ("left", "right"))
    assert left is not None
    assert right is not None
    assert left["x"] == right["x"]
    assert left["y"] < right["y"]
    small = "rows => rows.filter(one => one.checkVisibility() && one.offsetHeight < 24).map(one => one.outerHTML)"
    assert opened.page.locator("button, select, input, summary").evaluate_all(small) == []


def test_the_result_is_one_page_of_paper(opened: Driver, files: Files) -> None:
    opened.page.get_by_role("textbox", name="Study").fill("A-17")
    opened.load("left", files["left"])
    opened.load("right", files["right"])
    opened.predict()
    opened.page.get_by_role("button", name="Show heat map").click()
    opened.page.locator(".legend").wait_for()
    before = opened.pixels("left")
    paper = opened.page.pdf(prefer_css_page_size=True)
    assert paper.count(b"/Type /Page\n") == 1
    assert opened.pixels("left") == before  # afterwards the screen is as it was
    opened.page.emulate_media(media="print")
    sheet = opened.page.locator("#sheet")
    for words in ("A-17", "breast (trained on busbra)", "For research use; not a medical device.", "Date"):
        expect(sheet).to_contain_text(words)
    for hidden in ("header.head", ".act", "#explain .fields", ".controls >> nth=0", ".file >> nth=0"):
        expect(opened.page.locator(hidden)).to_be_hidden()
    expect(opened.page.locator("#result")).to_contain_text("Only malignant remains in the set.")


def test_a_token_is_asked_for_and_kept_in_memory_only(opened: Driver, files: Files) -> None:
    opened.expected.add("401")
    opened.service.token = "right one"
    opened.drop(files["left"], opened.view("left").locator(".stage"))
    dialog = opened.page.get_by_role("dialog")
    expect(dialog).to_contain_text("This service asks for a token")
    dialog.get_by_label("Token").fill("wrong one")
    opened.page.keyboard.press("Enter")
    expect(dialog).to_contain_text("That token was refused")
    dialog.get_by_label("Token").fill("right one")
    dialog.get_by_role("button", name="Continue").click()
    opened.page.locator('.view.filled[data-modality="left"]').wait_for()
    opened.predict()
    opened.page.reload()
    expect(dialog).to_contain_text("This service asks for a token")
    dialog.get_by_role("button", name="Cancel").click()
    expect(opened.page.locator("#problem")).to_contain_text("The service needs a token.")
    opened.service.token = None
    opened.page.get_by_role("button", name="Try again").click()
    opened.page.locator(".view").first.wait_for()


def test_the_page_works_under_the_strictest_policy_and_holds_nothing_inline(opened: Driver) -> None:
    assert POLICY == "default-src 'self'"
    inline = "() => document.querySelectorAll('script:not([src]), style, [onclick], [onload], link:not([href])').length"
    assert opened.evaluate(inline) == 0
    loaded = {url.removeprefix(opened.service.address) for url in opened.requests}
    assert {"main.js", "style.css", "v1/models"} <= loaded
