"""The documentation in a real browser: works without the internet, and its examples can be tried."""

import pytest


def opened_operation(page, name):
    """The block of an operation on Swagger UI's page, unfolded and ready to be tried."""
    block = page.locator(".opblock-post").filter(has=page.locator(f"[data-path='/{name}']"))
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    return block


def executed(block):
    """The status that the page shows for its live response."""
    block.get_by_role("button", name="Execute").click()
    return block.locator(".live-responses-table .response-col_status").last.inner_text().split()[0]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_page_needs_nothing_from_elsewhere_and_complains_of_nothing(service, visit, path):
    visit.page.goto(service.url + path, wait_until="networkidle")
    visit.page.get_by_text("What does this image model see").first.wait_for()
    assert len(visit.requests) >= 3
    assert visit.strangers(service.url) == []
    assert visit.complaints == []


def test_a_second_documentation_page_if_there_is_one_needs_nothing_from_elsewhere(service, visit):
    visit.page.goto(f"{service.url}/redoc", wait_until="networkidle")
    assert visit.requests
    assert visit.strangers(service.url) == []


@pytest.mark.parametrize("name", ["predict", "explain"])
def test_the_json_example_can_be_tried(service, visit, name):
    visit.page.goto(f"{service.url}/docs")
    block = opened_operation(visit.page, name)
    with visit.page.expect_response(f"**/{name}*") as response:
        assert executed(block) == "200"
    assert response.value.status == 200
    assert len(response.value.json()["results"]) == 1
    assert visit.strangers(service.url) == []
    assert visit.complaints == []


def test_the_example_picture_can_be_downloaded_and_sent_as_a_file(service, visit):
    visit.page.goto(f"{service.url}/docs")
    link = visit.page.get_by_role("link", name="this scene")
    assert visit.page.evaluate("link => link.href", link.element_handle()) == f"{service.url}/docs/scene.jpg"
    block = opened_operation(visit.page, "predict")
    block.locator(".body-param-content-type select, .content-type-wrapper select").first.select_option("image/jpeg")
    chooser = block.locator("input[type=file]")
    chooser.set_input_files(
        {"name": "scene.jpg", "mimeType": "image/jpeg", "buffer": service.get("/docs/scene.jpg").content}
    )
    assert executed(block) == "200"
    assert visit.complaints == []
