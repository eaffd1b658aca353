"""What is deployed for watching works on the real service: its metrics arrive, alerts fire, panels show something."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from exposed import LABELS
from live import ADMIN_TOKEN, Service, running_eagerly, until
from repository import ROOT

from .prometheus import DEPLOY, Prometheus, promtool, watching

CALLERS = {"gradcam_caller_requests_total": {"caller"}}  # where there are keys
STAGES = {"read", "decode", "queue", "forward", "backward", "render"}
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
KEY = {"Authorization": "Bearer letmein"}
KEYS = "anna 1c8bfe8f801d79745c4631d09fff36c82aa37fc4cce4fc946683d7b336b63032\n"  # sha256 of the word above
BROKEN = "source: zoo\ncolour: red\n"

ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "gradcam.json").read_text())
PAGE = (ROOT / "docs" / "metrics.md").read_text()
PAGE_QUERIES = re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}


def ask(service: Service, path: str, **options: object) -> int:
    scene = service.client.get("/docs/scene.jpg").content
    files = [("image", scene)] * int(str(options.pop("images", 1)))
    return service.client.post(path, files=files, data=options, headers=KEY).status_code


def traffic(service: Service) -> None:
    """Of every kind that goes well, and requests whose callers are at fault."""
    assert ask(service, "/predict") == 200
    assert ask(service, "/predict", images=4) == 200
    assert ask(service, "/explain", target=["star", "flower"], output="overlay") == 200
    assert ask(service, "/explain", method="smoothgrad", samples=2) == 200
    assert ask(service, "/explain", target="dragon") == 422
    assert ask(service, "/predict", model="nobody") == 404
    assert service.client.post("/predict", content=b"", headers={"Content-Type": "image/png"}).status_code == 401


def panel_query(expression: str) -> str:
    """As Grafana sends it with everything chosen."""
    chosen = {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m"}
    for name, value in chosen.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def has_data(prometheus: Prometheus, expression: str) -> bool:
    return bool(prometheus.query(panel_query(expression)))


def check_page(prometheus: Prometheus) -> None:
    """What the queries of the page answer is what is known of such traffic."""
    p95, failing, stages, queueing, rates, full, batches, restarts, mix, cost = (
        {frozenset(sample["metric"].values()): float(sample["value"][1]) for sample in prometheus.query(query)}
        for query in PAGE_QUERIES
    )
    assert set(failing.values()) == {0}
    assert set(restarts.values()) == {0}
    assert mix == {frozenset({"scenes", "1"}): pytest.approx(1)}
    assert stages.keys() == {frozenset({stage}) for stage in STAGES}
    assert all(0 <= share <= 1 for share in (*queueing.values(), *full.values()))
    assert all(1 <= size <= 128 for size in batches.values())
    assert all(0 < seconds <= 10 for seconds in p95.values())
    assert min(*rates.values(), *cost.values()) > 0
    (an_hour,) = prometheus.query(f"3600 * {PAGE_QUERIES[9]} * sum({PAGE_QUERIES[4]})")  # of one replica
    assert float(an_hour["value"][1]) == pytest.approx(1.20)


def test_what_has_had_no_traffic_is_left_out_of_the_pages_answers(tmp_path: Path):
    idle = [
        'gradcam_requests_total{inference="true", model="idle", version="1"}',
        'gradcam_request_duration_seconds_bucket{endpoint="/explain", model="idle", le="1.0"}',
        'gradcam_request_duration_seconds_bucket{endpoint="/explain", model="idle", le="+Inf"}',
        'gradcam_stage_duration_seconds_sum{stage="queue", model="idle"}',
        'gradcam_stage_duration_seconds_count{stage="queue", model="idle"}',
        'gradcam_batch_size_sum{model="idle"}',
        'gradcam_batch_size_count{model="idle"}',
        "gradcam_queue_size",
        "gradcam_in_flight",
    ]
    answers = [{"expr": query, "eval_time": "10m", "exp_samples": []} for query in PAGE_QUERIES]
    answers[4]["exp_samples"] = [{"labels": '{model="idle"}', "value": 0}]  # images a second
    answers[5]["exp_samples"] = [{"labels": "{}", "value": 1}]  # how full it is
    test = {
        "interval": "15s",
        "input_series": [{"series": one, "values": "7+0x40"} for one in idle],
        "promql_expr_test": answers,
    }
    (rules := tmp_path / "rules.yml").write_text(yaml.safe_dump({"tests": [test]}))
    result = promtool("test", "rules", rules)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Where a model is to come."""
    repository = tmp_path / "models"
    (repository / "broken" / "1").mkdir(parents=True)
    return repository


@pytest.fixture
def service(repository: Path) -> Iterator[Service]:
    (keys := repository.with_name("keys.txt")).write_text(KEYS)
    settings = {"api_keys": keys, "model_repository": repository, "admin_token": ADMIN_TOKEN, "api_processes": 2}
    with running_eagerly(**settings) as started:
        yield started


@pytest.fixture
def prometheus(service: Service, repository: Path) -> Iterator[Prometheus]:
    """What watches the service."""
    with watching(service.url, repository.parent) as started:
        yield started


def stirring(prometheus: Prometheus) -> set[tuple[str, str]]:
    """The alerts, but for that of latency where this machine took longer than a second for a request."""
    slow = prometheus.query("job:gradcam_slow_requests:rate5m > 0")
    return {alert for alert in prometheus.alerts() if not (slow and alert[0] == "GradcamLatencyBudgetBurn")}


def check_good_times(service: Service, prometheus: Prometheus) -> None:
    """Every metric arrives, every panel shows it and no alert stirs."""
    missing = QUERIES | {query: query for query in PAGE_QUERIES}

    def all_shown() -> bool:
        traffic(service)
        for name in [name for name, query in missing.items() if has_data(prometheus, query)]:
            del missing[name]
        return not missing

    try:
        until(all_shown)
    except AssertionError:
        pytest.fail(f"queries without data: {missing}")
    for metric, labels in (LABELS | CALLERS).items():
        samples = [sample["metric"] for sample in prometheus.query(f'{{__name__=~"{metric}(_bucket)?"}}')]
        # where a label is empty, Prometheus leaves it out
        seen = {label for sample in samples for label in sample} - {"__name__", "job", "instance", "le"}
        assert (bool(samples), seen) == (True, labels), metric
    stages = prometheus.query("gradcam_stage_duration_seconds_count")
    assert {sample["metric"]["stage"] for sample in stages} == STAGES
    asked = 'gradcam_requests_total{endpoint="/explain",model="scenes",method="gradcam",status="200"}'
    assert float(prometheus.query(asked)[0]["value"][1]) >= 1
    check_page(prometheus)
    assert prometheus.query("gradcam_worker_restarts_total") == []
    until(lambda: stirring(prometheus), set())  # which an instance does that has not been asked yet, or not in time
    assert prometheus.query("job:gradcam_failed_requests:ratio_rate5m")[0]["value"][1] == "0"


def check_bad_times(service: Service, prometheus: Prometheus, repository: Path) -> None:
    """The right alerts stir when something breaks, at last the service itself."""
    until(lambda: prometheus.query("gradcam_worker_up == 1") and stirring(prometheus) == set())
    (repository / "broken" / "1" / "model.yaml").write_text(BROKEN)
    assert service.client.post("/models/reload", headers=ADMIN).status_code == 200
    until(lambda: stirring(prometheus), {("GradcamModelFailed", "ticket")})

    def burning() -> bool:  # its callers' requests fail
        assert ask(service, "/predict", model="broken") == 503
        return ("GradcamErrorBudgetBurn", "page") in prometheus.alerts()

    until(burning)

    os.kill(service.pids("worker")[-1], signal.SIGKILL)
    until(lambda: ("GradcamWorkerRestarts", "ticket") in prometheus.alerts())
    restarts = prometheus.query("gradcam_worker_restarts_total")
    assert [(one["metric"]["device"], one["metric"]["reason"]) for one in restarts] == [("cpu", "SIGKILL")]

    def away() -> bool:  # dying whenever it is started, it is started ever more rarely
        with suppress(ProcessLookupError):
            os.kill(service.pids("worker")[-1], signal.SIGKILL)
        return ("GradcamWorkerDown", "page") in prometheus.alerts()

    until(away)
    states = {alert["labels"]["alertname"]: alert["state"] for alert in prometheus.listed_alerts()}
    assert states["GradcamWorkerRestarts"] == "firing"
    assert states["GradcamWorkerDown"] == "pending"  # for a minute, which the rules' own tests wait
    service.process.send_signal(signal.SIGTERM)
    until(lambda: ("GradcamDown", "page") in prometheus.alerts())


def test_every_metric_arrives_and_alerts_stir_when_something_breaks_and_not_before(
    service: Service, prometheus: Prometheus, repository: Path
):
    check_good_times(service, prometheus)
    check_bad_times(service, prometheus, repository)


def test_the_configurations_are_sound(tmp_path: Path):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(example)
    deployed = DEPLOY / "prometheus" / "prometheus.yml"
    for file in (deployed, tmp_path / "prometheus.yml"):
        checked = promtool("check", "config", file)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        (scrape,) = yaml.safe_load(file.read_text())["scrape_configs"]
        assert scrape["job_name"] == "gradcam"  # as rules and dashboard have it


def test_each_alert_fires_when_it_should_and_not_before():
    tested = promtool("test", "rules", DEPLOY / "prometheus" / "tests" / "alerts.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    text = (DEPLOY / "prometheus" / "tests" / "alerts.yml").read_text()
    assert [rule["alert"] for rule in ALERTS if rule["alert"] not in text] == []


def test_each_alert_has_its_paragraph_and_each_paragraph_its_alert():
    readme = (DEPLOY / "README.md").read_text()
    section = readme.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    headings = re.findall(r"^### (\w+)$", section, re.MULTILINE)
    assert set(headings) == {rule["alert"] for rule in ALERTS}
    for rule in ALERTS:
        assert rule["annotations"]["runbook"] == f"deploy/README.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_rules_and_panels_use_metrics_that_are_watched_here():
    rules = "".join(path.read_text() for path in (DEPLOY / "prometheus" / "rules").glob("*.yml"))
    used = set(re.findall(r"(?<![:\w])gradcam_[a-z_]+", rules + "".join([*QUERIES.values(), *PAGE_QUERIES])))
    known = LABELS.keys() | CALLERS.keys() | {"gradcam_worker_restarts_total"}
    assert {re.sub("_(bucket|sum|count)$", "", metric) for metric in used} <= known


def test_selectors_name_labels_that_their_metrics_have():
    rules = "".join(path.read_text() for path in (DEPLOY / "prometheus" / "rules").glob("*.yml"))
    queries = rules + "".join([*QUERIES.values(), *PAGE_QUERIES])
    selected = re.findall(r"(?<![:\w])(gradcam_[a-z_]+)\{([^}]*)\}", queries)
    assert len(selected) > 10
    for metric, selector in selected:
        known = (LABELS | CALLERS).get(re.sub("_(bucket|sum|count)$", "", metric), {"device", "reason"})
        assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= known | {"job", "instance", "le"}, metric


def test_grafana_finds_the_dashboard_and_its_source():
    grafana = DEPLOY / "grafana"
    (source,) = yaml.safe_load((grafana / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["current"]["value"] == source["uid"]
    assert variables["datasource"]["query"] == source["type"]
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)
    places = [
        (y, x)
        for at in (panel["gridPos"] for panel in panels)
        for y in range(at["y"], at["y"] + at["h"])
        for x in range(at["x"], at["x"] + at["w"])
    ]
    assert len(places) == len(set(places)), "panels overlap"
    assert max(x for _, x in places) < 24
