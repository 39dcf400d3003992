"""`dvfb daemon --example` names every setting there is, and each of its lines is one that a daemon takes."""

import re
import tomllib
from typing import get_args

import pytest
from pydantic import BaseModel

from dvfb_stream.daemon.example import example
from dvfb_stream.daemon.settings import DaemonSettings, read_settings
from dvfb_stream.errors import SettingsError

COMMENTED = re.compile(r'# (?P<line>("[^"]+"|\w+) = .*|\[[\w.]+\].*)')


def models_in(annotation):
    """Models that a field's type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return set().union(*(models_in(part) for part in get_args(annotation)), set())


def settings_of(model, seen=()):
    """Names of all fields of a model and of those below it."""
    for name, field in model.model_fields.items():
        yield name
        for below in models_in(field.annotation):
            if below not in seen:
                yield from settings_of(below, (*seen, below))


@pytest.fixture
def config(tmp_path):
    return tmp_path / "daemon.toml"


def test_it_is_valid_as_it_is(config):
    config.write_text(example())
    settings = read_settings(config)
    assert settings.sinks.tiled is not None
    assert settings.http_port == 9100


@pytest.mark.parametrize("name", sorted(set(settings_of(DaemonSettings)) - {"tiled", "source"}))
def test_every_setting_is_in_it(name):
    assert re.search(rf"(^|\W){name}(\W|$)", example()), name


def test_every_commented_line_is_one_that_a_daemon_takes(config):
    """Each by itself; a commented table with the lines behind it."""
    lines = example().splitlines()
    tried = 0
    for number, line in enumerate(lines):
        found = COMMENTED.fullmatch(line)
        if found is None or any(COMMENTED.fullmatch(before) for before in table_before(lines, number)):
            continue
        changed, end = list(lines), number + 1
        if found["line"].startswith("["):
            while end < len(lines) and COMMENTED.fullmatch(lines[end]):
                end += 1
        for k in range(number, end):
            changed[k] = COMMENTED.fullmatch(lines[k])["line"]
        text = "\n".join(changed)
        if "[source.tiled]" in found["line"]:
            text = text[: text.index("[kafka]")] + text[text.index("[sinks.tiled]") :]
        tomllib.loads(text)
        config.write_text(text)
        try:
            read_settings(config)
        except SettingsError as error:
            pytest.fail(f"{found['line']}: {error}")
        tried += 1
    assert tried > 40


def table_before(lines, number):
    """The head of a commented table whose line this is."""
    for before in reversed(lines[:number]):
        if not COMMENTED.fullmatch(before):
            return []
        if before.startswith("# ["):
            return [before]
    return []


def test_what_it_says_a_daemon_does_without_a_line_is_so(config):
    """Defaults: those behind a # that are no example."""
    config.write_text(example())
    settings = read_settings(config)
    stated = dict(re.findall(r"^# (\w+) = ([\d.]+|true|false) ", example(), flags=re.MULTILINE))
    for part in (
        settings.http,
        settings.kafka,
        settings.sinks.tiled,
        settings.dead_letters,
        settings.files,
        settings.limits,
    ):
        for name, value in part.model_dump().items():
            if name in stated and name != "batch_size":
                assert float(stated[name]) == value, name
