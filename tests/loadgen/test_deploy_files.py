import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # no stubs in the development extra; only loads are used

from streamflow.base.metrics import METRICS

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "streamflow.json"
YAML_FILES = sorted(path for path in DEPLOY.rglob("*") if path.suffix in {".yml", ".yaml"})


@pytest.fixture(scope="module")
def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def expressions(dashboard: Any) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def exported(name: str) -> str:
    """The table's name of a series: a histogram exports three."""
    histograms = {metric.name for metric in METRICS if metric.kind == "histogram"}
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    return base if base in histograms else name


def test_metric_names_are_unique_and_follow_prometheus() -> None:
    names = [metric.name for metric in METRICS]

    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"streamflow_[a-z_]+", metric.name)
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert metric.help.endswith(".")
        assert metric.labels[0] == "pipeline"


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_parses(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_dashboard_uses_only_metrics_that_are_exported(dashboard: Any) -> None:
    used = {exported(name) for expr in expressions(dashboard) for name in re.findall(r"streamflow_\w+", expr)}

    assert used <= {metric.name for metric in METRICS}


def test_dashboard_shows_every_metric(dashboard: Any) -> None:
    used = {exported(name) for expr in expressions(dashboard) for name in re.findall(r"streamflow_\w+", expr)}

    assert {metric.name for metric in METRICS} <= used


def test_dashboard_groups_only_by_labels_that_the_metric_has(dashboard: Any) -> None:
    labels = {metric.name: {*metric.labels, "le"} for metric in METRICS}
    for expr in expressions(dashboard):
        for grouping, name in re.findall(r"by \(([^)]*)\) \((?:\w+\()?(streamflow_\w+)", expr):
            assert set(grouping.split(", ")) <= labels[exported(name)], expr


def test_dashboard_legends_name_only_labels_that_are_grouped_by(dashboard: Any) -> None:
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= grouped, panel["title"]


def test_counters_are_shown_as_rates(dashboard: Any) -> None:
    for expr in expressions(dashboard):
        for name in re.findall(r"streamflow_\w+_total", expr):
            assert re.search(rf"(rate|increase)\({name}\b", expr), expr


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard: Any) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    cells: list[tuple[int, int]] = []
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells += [(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])]

    assert len(set(ids)) == len(ids)
    assert len(set(cells)) == len(cells)


def test_dashboard_and_data_source_agree(dashboard: Any) -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    uids = {panel["datasource"]["uid"] for panel in dashboard["panels"]}

    assert uids == {source["uid"]}


def test_prometheus_scrapes_the_port_that_the_service_publishes(compose: Any) -> None:
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    ((target,),) = (static["targets"] for static in job["static_configs"])
    service, port = target.split(":")

    assert any(mapping.endswith(f":{port}") for mapping in compose["services"][service]["ports"])
    assert job["metrics_path"] == "/metrics"


def test_services_publish_ports_on_localhost_only(compose: Any) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_compose_mounts_is_there(compose: Any) -> None:
    for service in compose["services"].values():
        for source in (volume.split(":")[0] for volume in service.get("volumes", [])):
            assert source in compose["volumes"] or (DEPLOY / source).exists(), source


def test_the_image_is_not_run_as_root_and_has_a_health_check() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    stages = [line for line in lines if line.startswith("FROM")]
    last = lines[lines.index(stages[-1]) :]

    assert len(stages) == 2
    assert "USER streamflow" in last
    assert 'ENTRYPOINT ["streamflow"]' in last
    assert "VOLUME /data" in last
    assert any("/healthz" in line for line in last)


def test_the_image_is_built_from_files_that_exist() -> None:
    root = DEPLOY.parent
    copies = re.findall(r"^COPY (?!--)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    kept = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"]
    sources = [source for copy in copies for source in copy.split()]

    assert sorted(sources) == sorted(kept)
    assert all((root / source).exists() for source in sources)
