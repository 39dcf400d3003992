"""What is counted is what was written, whoever wrote it; and Prometheus reads the same numbers."""

import gzip
import json
import socket
import sys
import threading
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvfb_stream.errors import MissingExtraError, SettingsError
from dvfb_stream.metrics import CATALOGUE, Histogram, Metrics, Stage, catalogue, serve, snapshot_collector


def values(metrics, metric):
    return metrics.snapshot()[metric.name]["values"]


def test_the_catalogue_keeps_to_the_rules_of_names():
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names)
    for metric in CATALOGUE:
        assert metric.name.startswith("dvfb_")
        assert metric.name.endswith(metric.unit)
        assert not metric.name.endswith("_total")
        assert metric.help.endswith(".")
        if isinstance(metric, Histogram):
            assert list(metric.buckets) == sorted(set(metric.buckets))


def test_all_that_is_defined_is_in_the_catalogue():
    defined = {value.name for value in vars(catalogue).values() if isinstance(value, catalogue.Metric)}
    assert defined == {metric.name for metric in CATALOGUE}


def test_a_new_record_has_zeros_and_is_json():
    snapshot = json.loads(json.dumps(Metrics().snapshot()))
    assert set(snapshot) == {metric.name for metric in CATALOGUE}
    assert snapshot["dvfb_received_frames"]["kind"] == "counter"
    assert snapshot["dvfb_received_frames"]["values"] == [{"labels": {}, "value": 0}]
    assert snapshot["dvfb_dropped_frames"]["values"] == []


def test_counters_by_label_and_gauges_that_shrink():
    metrics = Metrics()
    metrics.add(catalogue.DROPPED, 1, "queue full")
    metrics.add(catalogue.DROPPED, 2, "sampled out")
    metrics.add(catalogue.DROPPED, 1, "queue full")
    metrics.add(catalogue.QUEUE_BYTES, 100)
    metrics.add(catalogue.QUEUE_BYTES, -40)
    assert values(metrics, catalogue.DROPPED) == [
        {"labels": {"reason": "queue full"}, "value": 2},
        {"labels": {"reason": "sampled out"}, "value": 2},
    ]
    assert values(metrics, catalogue.QUEUE_BYTES) == [{"labels": {}, "value": 60}]


def test_prometheus_reads_the_doubtful_labels_by_their_names():
    metrics = Metrics()
    metrics.add(catalogue.DOUBTFUL, 3, "two_fold")
    (family,) = [one for one in snapshot_collector(metrics.snapshot).collect() if "doubtful" in one.name]
    (sample,) = family.samples
    assert (sample.name, sample.labels, sample.value) == (
        "dvfb_doubtful_labels_total",
        {"label": "two_fold"},
        3,
    )


@settings(deadline=None)
@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_values_up_to_each_bound(observed):
    metrics = Metrics()
    for value in observed:
        metrics.observe(catalogue.STAGE_SECONDS, value, Stage.VIEW)
    if not observed:
        assert values(metrics, catalogue.STAGE_SECONDS) == []
        return
    (found,) = values(metrics, catalogue.STAGE_SECONDS)
    assert found["labels"] == {"stage": "view"}
    assert found["count"] == len(observed)
    assert found["sum"] == pytest.approx(sum(observed))
    for bound, count in found["buckets"]:
        assert count == sum(value <= bound for value in observed)


def test_threads_lose_nothing():
    metrics = Metrics()

    def write():
        for _ in range(2000):
            metrics.add(catalogue.RECEIVED)
            metrics.observe(catalogue.BATCH_FRAMES, 3)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(metrics, catalogue.RECEIVED)[0]["value"] == 8000
    assert values(metrics, catalogue.BATCH_FRAMES)[0]["count"] == 8000


def test_wrong_labels_are_named():
    metrics = Metrics()
    metrics.add(catalogue.DROPPED)
    with pytest.raises(SettingsError, match=r"dvfb_dropped_frames has the labels \('reason',\)"):
        metrics.snapshot()


def written():
    metrics = Metrics()
    metrics.add(catalogue.RECEIVED, 7)
    metrics.add(catalogue.DROPPED, 3, "queue full")
    metrics.add(catalogue.QUEUE_FRAMES, 4)
    metrics.observe(catalogue.STAGE_SECONDS, 0.003, Stage.NETWORK)
    metrics.observe(catalogue.STAGE_SECONDS, 99.0, Stage.NETWORK)
    return metrics


def test_prometheus_reads_the_same_numbers():
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    registry.register(snapshot_collector(written().snapshot))
    assert registry.get_sample_value("dvfb_received_frames_total") == 7
    assert registry.get_sample_value("dvfb_annotated_frames_total") == 0
    assert registry.get_sample_value("dvfb_dropped_frames_total", {"reason": "queue full"}) == 3
    assert registry.get_sample_value("dvfb_queue_frames") == 4
    stage = {"stage": "network"}
    assert registry.get_sample_value("dvfb_stage_seconds_count", stage) == 2
    assert registry.get_sample_value("dvfb_stage_seconds_sum", stage) == pytest.approx(99.003)
    assert registry.get_sample_value("dvfb_stage_seconds_bucket", {**stage, "le": "0.005"}) == 1
    assert registry.get_sample_value("dvfb_stage_seconds_bucket", {**stage, "le": "+Inf"}) == 2


def test_what_is_served_is_the_state_of_now_in_prometheus_own_format():
    pytest.importorskip("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families

    metrics = written()
    with serve(metrics, 0) as server:
        for received in (7, 8):
            with urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
                families = {
                    family.name: family for family in text_string_to_metric_families(answer.read().decode())
                }
            assert {metric.name for metric in CATALOGUE} <= set(families)
            assert families["dvfb_received_frames"].samples[0].value == received
            metrics.add(catalogue.RECEIVED)
        with pytest.raises(SettingsError, match=f"127.0.0.1:{server.port}: .* choose another port"):
            serve(metrics, server.port)
    with serve(metrics, server.port):  # the port was freed
        pass


def test_prometheus_gets_the_format_the_series_and_the_compression_that_it_asks_for():
    pytest.importorskip("prometheus_client")
    with serve(written(), 0) as server:

        def get(path, **headers):
            asked = {name.replace("_", "-"): value for name, value in headers.items()}
            with urlopen(Request(f"http://127.0.0.1:{server.port}{path}", headers=asked)) as answer:
                return answer.headers, answer.read()

        headers, plain = get("/metrics")
        assert headers["Content-Type"].startswith("text/plain")
        assert headers["Content-Encoding"] is None
        headers, packed = get("/metrics", Accept_Encoding="gzip")
        assert headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed).splitlines()[:2] == plain.splitlines()[:2]
        headers, found = get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert headers["Content-Type"].startswith("application/openmetrics-text")
        assert found.endswith(b"# EOF\n")
        _, found = get("/metrics?name[]=dvfb_received_frames_total")
        assert b"dvfb_received_frames_total" in found
        assert b"dvfb_stage_seconds" not in found
        with pytest.raises(HTTPError, match="404"):
            get("/")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_it_listens_by_the_other_protocol_too():
    pytest.importorskip("prometheus_client")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with (
        serve(written(), 0, address="::1") as server,
        urlopen(f"http://[::1]:{server.port}/metrics") as answer,
    ):
        assert b"dvfb_received_frames_total" in answer.read()


@pytest.mark.parametrize("port", [-1, 65_536, 1 << 40])
def test_a_port_that_is_none_is_said_so(port):
    pytest.importorskip("prometheus_client")
    with pytest.raises(SettingsError, match=f"127.0.0.1:{port}: .* choose another port"):
        serve(Metrics(), port)


def test_without_the_client_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"dvfb-stream\[metrics\]"):
        serve(Metrics(), 0)
