"""A configuration file is checked whole before anything starts, and every complaint is one line."""

from pathlib import Path

import pytest

from dvfb_stream.daemon.settings import read_settings
from dvfb_stream.errors import SettingsError
from dvfb_stream.files.settings_file import read_geometries

CONFIG = """
[kafka]
bootstrap_servers = ["localhost:9092"]
topics = ["smi.bluesky.runengine.documents"]

[sinks]
jsonl = "annotations.jsonl"

[sinks.tiled]
uri = "http://localhost:8000"

[detectors.pilatus2M_image]
shape = [1679, 1475]
center_x = 740.2
center_y = 1180.9
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "daemon.toml"
    path.write_text(CONFIG)
    return path


def test_a_short_file_is_enough(config):
    settings = read_settings(config)
    assert settings.model == "default"
    assert settings.kafka.topics == ["smi.bluesky.runengine.documents"]
    assert settings.sinks.jsonl == config.parent / "annotations.jsonl"
    assert (
        read_geometries(settings.detectors, config, what="configuration")["pilatus2M_image"].center_x == 740.2
    )


def test_the_documented_configuration_is_valid(config):
    page = (Path(__file__).parents[2] / "docs" / "daemon.md").read_text()
    config.write_text(page.split("```toml")[1].split("```")[0])
    assert read_settings(config).sinks.tiled is not None


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("topics", "topic", "kafka.topics: Field required; kafka.topic: there is no such key"),
        ('["localhost:9092"]', '["a:1", 3]', "kafka.bootstrap_servers.1: Input should be a valid string"),
        ('["localhost:9092"]', "[]", "kafka.bootstrap_servers: List should have at least 1 item"),
        ("[sinks]", "api_key = 'hidden'\n[sinks]", "kafka.api_key: there is no such key"),
        ("[kafka]", "arrays = ['feature']\n[kafka]", "arrays: unknown array 'feature'; there are coefficients"),
        ("[sinks]", "[limits]\nmax_frames = 0\n[sinks]", "limits.max_frames: Input should be greater than 0"),
        ("http://", "tcp://", "sinks.tiled.uri: must begin with http:// or https://"),
        ("http://", "http://u:hidden@", "put it into the environment variable TILED_API_KEY"),
        (':8000"', ':8000/api/v1?api_key=hidden"', "put it into the environment variable TILED_API_KEY"),
        ('center_y = 1180.9', "", "detectors.pilatus2M_image: center_y is missing"),
        ("[kafka]", "[kafka", "is not TOML"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_by_name_and_without_secrets(config, old, new, complaint):
    assert old in CONFIG
    config.write_text(CONFIG.replace(old, new))
    with pytest.raises(SettingsError) as refused:
        read_settings(config)
    message = str(refused.value)
    assert complaint in message
    assert str(config) in message
    assert "\n" not in message
    assert "hidden" not in message


def test_a_daemon_without_any_sink_is_refused(config):
    config.write_text(CONFIG.replace('jsonl = "annotations.jsonl"', "").replace("[sinks.tiled]", "").replace(
        'uri = "http://localhost:8000"', ""))  # fmt: skip
    with pytest.raises(SettingsError, match="name at least one of tiled, jsonl, topic"):
        read_settings(config)


SOURCE = """
[source.tiled]
uri = "http://localhost:8000/api/v1/metadata/raw"
"""
KAFKA = CONFIG[: CONFIG.index("[sinks]")]


def test_a_tiled_catalog_takes_the_place_of_kafka(config):
    config.write_text(
        CONFIG.replace(KAFKA, SOURCE + "position = 'here.json'\nsince = 2026-11-01T00:00:00Z\n")
    )
    settings = read_settings(config)
    assert settings.kafka is None
    assert settings.source.tiled.position == config.parent / "here.json"
    assert settings.source.tiled.since.year == 2026


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (KAFKA + SOURCE, "it has both [kafka] and [source.tiled]; a daemon has one source"),
        ("", "it does not say where raw runs come from; add [kafka] with bootstrap_servers and topics, or"),
        (SOURCE + "urls = 1\n", "source.tiled.urls: there is no such key"),
        (SOURCE.replace("tiled", "kafka"), "source.kafka: there is no such key"),
        (SOURCE + "poll_interval = 0\n", "source.tiled.poll_interval: Input should be greater than or equal to 0.1"),
        (SOURCE.replace("raw", "raw?api_key=hidden"), "put it into the environment variable TILED_API_KEY"),
        (SOURCE + "[sinks]\ntopic = 'smi.dvfb'\n", "sinks.topic is on the cluster under [kafka], and there is none"),
    ],
)  # fmt: skip
def test_a_daemon_has_one_source_and_is_told_how(config, source, complaint):
    rest = CONFIG[len(KAFKA) :].replace("[sinks]", "") if "[sinks]" in source else CONFIG[len(KAFKA) :]
    config.write_text(source + rest)
    with pytest.raises(SettingsError) as refused:
        read_settings(config)
    assert complaint in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_the_documented_source_is_valid(config):
    page = (Path(__file__).parents[2] / "docs" / "tiled-source.md").read_text()
    config.write_text(page.split("```toml")[1].split("```")[0])
    assert read_settings(config).source is not None


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="cannot read the configuration"):
        read_settings(tmp_path / "nothing.toml")


def test_a_detector_of_unknown_shape_has_the_one_of_its_frames(config):
    config.write_text(CONFIG.replace("shape = [1679, 1475]", ""))
    found = read_geometries(read_settings(config).detectors, config, what="configuration")["pilatus2M_image"]
    descriptor = {"data_keys": {"pilatus2M_image": {"shape": [1, 195, 487]}}}
    geometry = found.geometry_in({"uid": "r"}, descriptor, "pilatus2M_image")
    assert geometry.shape == (195, 487)
    assert geometry.center_x == 740.2


@pytest.mark.parametrize("root", ["data", "", "/", "//", "/proc", "/dev/"])
def test_a_root_must_be_a_folder_of_data(config, root):
    config.write_text(f"{CONFIG}\n[files]\nallowed_roots = ['/data', '{root}']\n")
    with pytest.raises(SettingsError, match=r"files\.allowed_roots\.1"):
        read_settings(config)


def test_without_files_in_the_settings_none_may_be_opened_but_where_root_map_leads(config):
    from dvfb_stream.daemon.reading import reading_process
    from dvfb_stream.isolation.frame_memory import FrameMemory
    from dvfb_stream.metrics import Metrics

    assert read_settings(config).files.allowed_roots == []
    config.write_text(f"{CONFIG}\n[root_map]\n'/ioc' = '/mnt/data'\n")
    files = reading_process(read_settings(config), FrameMemory(), Metrics())
    assert files.allowed_roots == ("/mnt/data",)
    files.close()
