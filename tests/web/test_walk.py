"""A walk through the playground, in a real browser against the running service."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from api.calls import encoded, opened, photo, values
from gradcam_service.images.colormaps import COLORMAPS, table


@pytest.fixture(autouse=True)
def keeps_to_itself(playground):
    """Whatever is done, no request leaves the origin and nothing is complained of."""
    yield
    assert playground.visit.strangers(playground.url) == []
    aborted = "net::ERR_ABORTED"  # what nobody waits for any more
    assert [said for said in playground.visit.complaints if aborted not in said] == []


def test_a_first_visit_sees_two_classes_and_how_their_maps_differ(playground):
    playground.open(tiles=2)
    assert playground.titles() == ["cross", "star"]
    assert playground.pressed() == ["cross", "star"]
    assert "model=scenes@1" in playground.hash()  # which may not be the default tomorrow
    first, second = playground.heat(0), playground.heat(1)
    hottest = [np.unravel_index(heat[:, :, 3].argmax(), heat.shape[:2]) for heat in (first, second)]
    assert np.hypot(*np.subtract(*hottest)) > first.shape[0] / 4
    assert "cross" in playground.page.locator("#classes").inner_text()
    assert "12 shapes" in playground.page.locator("#model-description").inner_text()


def test_an_example_is_answered_at_once_and_a_click_explains_another_class(playground):
    playground.open(tiles=2)
    playground.page.get_by_role("button", name="a fish and a star").click()
    playground.shows("fish")
    bars = playground.page.locator("#classes li")
    assert bars.count() == 5
    assert re.search(r"fish\s+99\.\d %", bars.first.inner_text())
    fish = playground.heat()
    asked = len(playground.asked)
    playground.class_button("star").click()
    playground.shows("star")
    assert not np.array_equal(playground.heat(), fish)
    assert len(playground.asked) == asked + 1
    playground.class_button("fish").click()
    playground.shows("fish")
    assert np.array_equal(playground.heat(), fish)
    assert len(playground.asked) == asked + 1  # what is known is not asked again


def test_up_to_four_classes_side_by_side(playground):
    playground.open("#picture=triangle-star-lightning")
    for tiles in (2, 3, 4):
        playground.page.locator("#classes .plus:not([aria-pressed=true])").first.click()
        playground.settled(tiles)
    assert playground.titles()[:3] == ["triangle", "star", "lightning"]
    assert playground.page.locator("#classes .plus:not([aria-pressed=true])").first.is_disabled()
    playground.page.get_by_role("button", name="star side by side").click()
    playground.settled(3)
    assert "star" not in playground.titles()


def test_a_class_that_is_not_among_the_top_is_explained_by_its_name(playground):
    playground.open("#picture=fish-star")
    playground.page.get_by_label("Another class").fill("Hourglass")
    playground.page.get_by_role("button", name="Explain").click()
    playground.shows("hourglass")
    assert playground.pressed() == ["hourglass"]
    playground.page.get_by_label("Another class").fill("dragon")
    playground.page.get_by_role("button", name="Explain").click()
    said = playground.page.locator("#class-name-error")
    said.get_by_text("no class is labelled 'dragon'").wait_for()
    assert playground.titles() == ["hourglass"]  # what was there is still there
    playground.page.get_by_label("Another class").press_sequentially("fly")
    assert said.inner_text() == ""
    assert ["422" in complaint for complaint in playground.visit.complaints] == [True]
    playground.visit.complaints.clear()


def test_looks_are_changed_without_a_request(playground):
    playground.open("#picture=fish-star")
    playground.page.wait_for_load_state("networkidle")
    before, asked = playground.heat(), len(playground.visit.requests)
    page = playground.page
    opaque = page.locator(".heat").evaluate("heat => getComputedStyle(heat).opacity")
    page.get_by_label("Opacity").fill("30")
    assert page.locator(".heat").evaluate("heat => getComputedStyle(heat).opacity") == "0.3" != opaque
    assert np.array_equal(playground.heat(), before)
    colours = {}
    for name in COLORMAPS:
        page.get_by_role("combobox", name="Colours", exact=True).select_option(name)
        heat = playground.heat()
        row, column = np.unravel_index(before[:, :, 3].argmax(), before.shape[:2])
        colours[name] = tuple(heat[row, column, :3].tolist())
        assert colours[name] == tuple(table(name)[before[row, column, 3]].tolist())
    playground.radio("Map only")
    assert page.locator(".photo").is_hidden()
    assert set(playground.heat()[:, :, 3].ravel().tolist()) == {255}
    playground.radio("Overlay")
    assert page.locator(".photo").is_visible()
    assert page.locator(".box").is_hidden()
    page.get_by_label("Box").check()
    assert page.locator(".box").is_visible()
    assert len(playground.visit.requests) == asked  # not even of an icon


def test_the_heat_and_the_box_are_those_that_the_service_draws(playground, client):
    playground.open("#picture=lightning-cross-arrow&targets=0&box=1")
    data = client.get("/web/examples/lightning-cross-arrow.jpg").content
    options = {"target": "arrow", "boxes": "true", "max_side": 4096}
    boxes = {}
    for threshold in (0.5, 0.15):
        answer = client.post("/explain", files={"image": data}, data=options | {"threshold": threshold}).json()
        (drawn,) = answer["results"][0]["explanations"]
        boxes[threshold] = drawn["boxes"][0]
    heatmap = opened(drawn["heatmap"])
    heat = playground.heat()
    assert heat.shape[:2] == (heatmap.height, heatmap.width)
    levels = np.asarray(heatmap).astype(int)  # opacity is the level
    assert np.abs(heat[:, :, 3] - levels).max() <= 3
    assert boxes[0.5] != boxes[0.15]
    asked = len(playground.visit.requests)
    for threshold, box in reversed(boxes.items()):
        playground.page.get_by_label("Least share of the maximum").fill(f"{100 * threshold:.0f}")
        assert np.abs(np.subtract(playground.edges(".box", heatmap.size), box)).max() < 1
    assert len(playground.visit.requests) == asked
    assert "threshold=0.5" in playground.hash()


def test_what_the_model_sees_of_a_picture_is_outlined(playground, client):
    playground.open("#picture=coffee&model=resnet18@1")
    data = client.get("/web/examples/coffee.jpg").content
    answer = client.post("/explain", files={"image": data}, data={"model": "resnet18", "output": "map"}).json()
    region = answer["results"][0]["explanations"][0]["region"]
    size = Image.open(io.BytesIO(data)).size
    assert region[0] > 50  # else the test shows nothing
    assert np.abs(np.subtract(playground.edges(".seen", size), region)).max() < 1
    assert "resize 256, crop 224" in playground.page.locator("#seen").inner_text()
    playground.radio("Map only")
    assert playground.page.locator(".seen").is_hidden()
    playground.open("#picture=coffee&model=scenes@1")
    playground.until("document.getElementById('seen').textContent === ''")
    assert playground.page.locator(".seen").is_hidden()  # it sees all of it, padded


def test_a_file_that_the_service_draws_smaller_has_its_maps_where_they_belong(playground, client):
    """A browser shows no TIFF files, and the service draws none with more than 4096 pixels on a side."""
    size, model = (6144, 512), "resnet18@1"
    data = encoded(photo(*size), "TIFF", compression="tiff_deflate")
    answer = client.post("/explain", files={"image": data}, data={"model": model, "output": "map"}).json()
    (explanation,) = answer["results"][0]["explanations"]
    assert explanation["image_size"] == list(size)
    playground.open(f"#picture=coffee&model={model}")
    playground.paste(data, "long.tif", "image/tiff")
    playground.until("document.querySelector('.photo')?.naturalWidth === 4096")
    playground.settled(1)
    edge = size[0] / 200
    assert np.abs(np.subtract(playground.edges(".seen", size), explanation["region"])).max() < edge
    covered = np.flatnonzero(playground.heat()[:, :, 3].any(axis=0)) / playground.heat().shape[1] * size[0]
    assert covered.min() >= explanation["region"][0] - edge
    assert covered.max() <= explanation["region"][2] + edge


@pytest.mark.parametrize(
    ("method", "kind", "ends"),
    [("occlusion", "signed", ["against", "for"]), ("guided_backprop", "signed_colour", ["lowers", "raises"])],
)
def test_signed_maps_are_drawn_about_zero_as_the_service_draws_them(playground, client, method, kind, ends):
    playground.open(f"#picture=lightning-cross-arrow&targets=0&method={method}")
    data = client.get("/web/examples/lightning-cross-arrow.jpg").content
    options = {"target": "arrow", "method": method, "max_side": 4096}
    (drawn,) = client.post("/explain", files={"image": data}, data=options).json()["results"][0]["explanations"]
    assert drawn["kind"] == kind
    expected = np.asarray(opened(drawn["heatmap"]).convert("RGBA")).astype(float)
    heat = playground.heat().astype(float)
    assert np.ptp(expected[:, :, :3]) > 100  # else the test shows nothing
    assert np.abs(heat[:, :, 3] - expected[:, :, 3]).max() <= 6  # two of 127 levels
    visible = [image[:, :, :3] * (image[:, :, 3:] / 255) for image in (expected, heat)]
    assert np.abs(np.subtract(*visible)).max() <= 10
    for side, word, value in zip(("low", "high"), ends, drawn["scale"], strict=True):
        said, number = playground.page.locator(f"#legend-{side}").inner_text().replace("−", "-").split(", ")
        assert (said, float(number)) == (word, pytest.approx(value, rel=0.01))


def test_the_value_under_the_cursor_is_the_maps(playground, client):
    playground.open("#picture=fish-star&targets=4,10", tiles=2)
    frame = playground.page.locator(".picture").first
    size = frame.bounding_box()
    data = client.get("/web/examples/fish-star.jpg").content
    answer = client.post("/explain", files={"image": data}, data={"target": "fish", "output": "map"}).json()
    (explanation,) = answer["results"][0]["explanations"]
    cells = values(explanation["map"])
    row, column = np.unravel_index(cells.argmax(), cells.shape)
    place = {
        "x": (column + 0.5) / cells.shape[1] * size["width"],
        "y": (row + 0.5) / cells.shape[0] * size["height"],
    }
    frame.hover(position=place)
    shown = playground.page.locator(".value").all_inner_texts()
    assert float(shown[0].split(",")[0]) == pytest.approx(cells.max(), rel=0.05)
    assert "% of the maximum" in shown[0]
    assert shown[1] != shown[0]  # the same place in the other map
    playground.page.mouse.move(2, 2)
    assert playground.page.locator(".value").all_inner_texts() == ["", ""]


def test_methods_are_compared_and_slow_ones_run_on_request(playground):
    playground.open("#picture=fish-star")
    playground.radio("Methods")
    playground.settled(12)
    page = playground.page
    assert playground.titles()[0] == "Grad-CAM"
    assert {"Grad-CAM++", "Eigen-CAM", "CAM", "Guided backprop", "RISE"} <= set(playground.titles())
    waiting = page.locator(".tile[data-state=slow]")
    assert waiting.count() == 5
    assert "1001 forward passes" in page.locator(".tile").filter(has_text="RISE").inner_text()
    page.get_by_role("button", name="Run: Occlusion").click()
    playground.settled(13)
    playground.class_button("star").click()
    playground.settled(12)
    assert "“star”" in page.locator("#meaning").inner_text()


def test_slow_methods_show_their_progress_and_can_be_cancelled(playground):
    playground.open("#picture=cat&model=resnet18@1&view=methods", tiles=12)
    page = playground.page
    page.get_by_role("button", name="Run the 5 slow ones too").click()
    page.locator("#progress").wait_for()
    playground.until("/ of 5 maps · \\d/.test(document.getElementById('progress-text').textContent)")
    assert page.get_by_role("progressbar").is_visible()
    page.get_by_role("button", name="Cancel").click()
    page.locator("#progress").wait_for(state="hidden")
    playground.until("document.querySelectorAll('.tile[data-state=busy]').length === 0")
    assert page.locator(".tile[data-state=cancelled]").count() >= 1
    assert "Cancelled" in page.locator(".tile").filter(has_text="RISE").inner_text()
    assert page.get_by_role("button", name="Run it: RISE").is_visible()


def test_two_models_side_by_side(playground):
    playground.open("#picture=cat&model=resnet18@1")
    playground.radio("Models")
    playground.page.get_by_role("combobox", name="With", exact=True).select_option("alexnet@1")
    playground.settled(2)
    playground.until("document.querySelectorAll('.tile strong')[1]?.textContent === 'alexnet@1'")
    assert playground.titles() == ["resnet18@1", "alexnet@1"]
    notes = playground.page.locator(".tile .note").all_inner_texts()  # label, probability, time
    labels = {re.fullmatch(r"(.+) [\d.]+ % · [\d.]+ m?s", note)[1] for note in notes}
    assert len(labels) == 1  # both explain the same class
    assert not np.array_equal(playground.heat(0), playground.heat(1))


def test_layers_are_listed_with_their_shapes_and_chosen(playground):
    playground.open("#picture=fish-star")
    playground.until("document.getElementById('layer').options.length > 3")
    options = playground.page.get_by_role("combobox", name="Layer", exact=True).locator("option").all_inner_texts()
    assert options[0] == "auto: layer3 · 128 × 16 × 16"
    assert "layer1 · 32 × 32 × 32" in options
    before = playground.heat()
    playground.page.get_by_role("combobox", name="Layer", exact=True).select_option("layer1")
    playground.until("location.hash.includes('layer1')")
    playground.settled(1)
    playground.until("document.getElementById('curl').textContent.includes('layer=layer1')")
    assert not np.array_equal(playground.heat(), before)


def test_time_is_shown_by_stage(playground):
    playground.open("#picture=fish-star")
    stages = playground.page.locator("#timing-stages dt").all_inner_texts()
    assert stages == [
        *("reading the request", "decoding the picture", "waiting for the batch", "forward pass"),
        *("gradient and map", "packing the map", "the rest"),
    ]
    assert re.search(r"Grad-CAM for fish: \d.* in the service", playground.page.locator("#timing-total").inner_text())
    widths = playground.page.locator("#timing-bar span").evaluate_all("parts => parts.map((p) => p.offsetWidth)")
    assert sum(widths) > 100


def test_the_address_holds_the_view(playground, browser, service):
    playground.open("#picture=fish-star")
    page = playground.page
    page.locator("#classes .plus:not([aria-pressed=true])").first.click()
    playground.settled(2)
    page.get_by_role("combobox", name="Method", exact=True).select_option("layercam")
    playground.until("location.hash.includes('layercam')")
    page.get_by_role("combobox", name="Colours", exact=True).select_option("viridis")
    page.get_by_label("Opacity").fill("40")
    page.get_by_label("Box").check()
    playground.settled(2)
    address, heat = page.url, [playground.heat(0), playground.heat(1)]
    for part in ("picture=fish-star", "method=layercam", "targets=4,10", "colormap=viridis", "opacity=0.4", "box=1"):
        assert part in playground.hash()
    page.goto("about:blank")
    page.goto(address)
    playground.settled(2)
    assert playground.titles() == ["fish", "star"]
    assert page.get_by_role("combobox", name="Method", exact=True).input_value() == "layercam"
    assert page.get_by_label("Box").is_checked()
    assert page.get_by_label("Opacity").input_value() == "40"
    for tile in (0, 1):
        difference = playground.heat(tile)[:, :, 3].astype(int) - heat[tile][:, :, 3]
        assert np.abs(difference).max() <= 1  # batches of other sizes round otherwise


def test_nonsense_in_the_address_is_passed_over(playground):
    playground.open("#picture=%3Cscript%3E&view=x&opacity=9&targets=a,-1,1.5&colormap=%00&show=&box=maybe")
    playground.page.get_by_role("button", name="a fish and a star").click()
    playground.settled(1)
    assert playground.page.get_by_role("combobox", name="Colours", exact=True).input_value() == "turbo"


@pytest.mark.parametrize("way", ["open", "drop", "paste"])
def test_a_picture_of_ones_own(playground, own, way):
    playground.open("#picture=fish-star")
    if way == "open":
        file = {"name": "mine.png", "mimeType": "image/png", "buffer": own}
        with playground.page.expect_file_chooser() as chooser:
            playground.page.get_by_role("button", name="Open a picture…").click()
        chooser.value.set_files(file)
    else:
        playground.paste(own, "mine.png", "image/png", way)
    playground.shows("crescent")
    assert playground.heat().shape[:2] == (192, 256)
    assert playground.hash() == "#picture=own&model=scenes@1"
    assert "not your picture" in playground.page.locator("#share-note").inner_text()
    assert "@mine.png" in playground.page.locator("#curl").inner_text()
    playground.page.reload()
    note = playground.page.get_by_text("used a picture of their own")
    note.wait_for()


def test_a_dragged_file_is_announced_before_it_is_dropped(playground, own):
    playground.open(tiles=2)
    playground.paste(own, "mine.png", "image/png", "dragover")
    assert playground.page.get_by_text("Drop it").is_visible()
    playground.paste(own, "mine.png", "image/png", "dragleave")
    assert playground.page.get_by_text("Drop it").is_hidden()


def test_a_photograph_is_not_what_the_model_of_scenes_knows_and_the_page_says_so(playground):
    playground.open("#picture=cat")
    note = playground.page.locator("#picture-note")
    assert "knows only drawn shapes" in note.inner_text()
    playground.page.get_by_role("combobox", name="Model", exact=True).select_option("resnet18@1")
    playground.until("location.hash.includes('resnet18')")
    playground.settled(1)
    assert note.is_hidden()


def test_a_map_is_downloaded_as_it_is_seen(playground, client):
    playground.open("#picture=fish-star&opacity=0.6")
    with playground.page.expect_download() as download:
        playground.page.get_by_role("button", name="Download PNG of fish").click()
    assert download.value.suggested_filename == "fish.png"
    saved = Image.open(download.value.path())
    photo = Image.open(io.BytesIO(client.get("/web/examples/fish-star.jpg").content))
    assert saved.size == photo.size
    difference = np.abs(np.asarray(saved.convert("RGB")).astype(int) - np.asarray(photo.convert("RGB")).astype(int))
    hottest = np.unravel_index(playground.heat()[:, :, 3].argmax(), playground.heat().shape[:2])
    assert difference[hottest].max() > 50
    assert np.median(difference) < 12
