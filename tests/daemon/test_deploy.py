"""What docs/deploy has can be read by whoever it is for, and speaks of metrics and settings that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from dvfb_stream.daemon.settings import read_settings
from dvfb_stream.metrics import CATALOGUE

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
METRIC = re.compile(r"\bdvfb_[a-z_]+")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
EXPORTED = {f"{metric.name}{suffix}" for metric in CATALOGUE for suffix in SUFFIXES[metric.kind]}


def expressions():
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']}: {target['refId']}", target["expr"]
    for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_that_is_drawn_or_watched_is_exported_under_that_name(where, expression):
    named = set(METRIC.findall(expression))
    assert named or 'job="dvfb"' in expression
    assert named <= EXPORTED, where


def test_operations_tells_of_every_metric_that_daemons_alone_have():
    docs = DEPLOY.parent
    told = " ".join(
        (docs / page).read_text() for page in ("operations.md", "live.md", "daemon.md", "spool.md")
    )
    exported = set(METRIC.findall(told))
    missing = {
        metric.name for metric in CATALOGUE if not any(name.startswith(metric.name) for name in exported)
    }
    assert not missing


def test_panels_lie_beside_one_another_and_have_numbers_of_their_own():
    panels = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_compose_file_names_what_is_there():
    compose = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    services = compose["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), volume
            elif not source.startswith(("$", "/")):
                assert source in compose["volumes"], volume
        # Nothing is offered to other machines.
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
    build = services["daemon"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    secrets = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yml").read_text()))
    assert secrets <= set(re.findall(r"^(\w+)=", (DEPLOY / "example.env").read_text(), flags=re.MULTILINE))


def test_the_parts_of_the_compose_file_agree_about_names_and_ports():
    settings = read_settings(DEPLOY / "daemon.toml")
    compose = (DEPLOY / "compose.yml").read_text()
    assert settings.kafka is not None
    for topic in (*settings.kafka.topics, settings.dead_letters.topic):
        assert topic in compose
    assert f"INSIDE://{settings.kafka.bootstrap_servers[0]}" in compose
    prometheus = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (target,) = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == f"daemon:{settings.http_port}"
    assert str(settings.kafka.max_message_bytes) in compose


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd")
def test_systemd_understands_the_unit(tmp_path):
    # Of what the unit names, nothing is installed here.
    unit = (DEPLOY / "dvfb-daemon.service").read_text()
    path = tmp_path / "dvfb-daemon.service"
    path.write_text(unit.replace("/opt/dvfb/bin/dvfb", "/bin/true"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False
    )
    ours = [line for line in checked.stderr.splitlines() if "dvfb-daemon" in line]
    assert not ours, checked.stderr


def test_the_unit_gives_the_daemon_the_time_that_it_takes():
    unit = (DEPLOY / "dvfb-daemon.service").read_text()
    limits = read_settings(DEPLOY / "daemon.toml").limits
    seconds = {
        name: float(value) for name, value in re.findall(r"^(\w+Sec)=(\d+)$", unit, flags=re.MULTILINE)
    }
    assert seconds["TimeoutStartSec"] > limits.start_timeout
    assert seconds["TimeoutStopSec"] > limits.drain_timeout + 20
    assert seconds["WatchdogSec"] > limits.stall_timeout
