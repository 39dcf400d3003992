"""Letters go to the topic, or else into the folder; nobody waits for them, and what is lost is counted."""

import threading

import pytest

from dvfb_stream.dead_letters.folder import LetterFolder
from dvfb_stream.dead_letters.post import DeadLetterPost
from dvfb_stream.metrics import Metrics, catalogue
from tests.dead_letters.test_letters import letter


class Topic:
    def __init__(self, takes=lambda letter: True):
        self.takes, self.letters, self.calls = takes, [], 0
        self.open = threading.Event()
        self.open.set()

    def __call__(self, letters):
        self.calls += 1
        assert self.open.wait(30)
        taken = [self.takes(letter) for letter in letters]
        self.letters += [letter for letter, is_taken in zip(letters, taken, strict=True) if is_taken]
        return taken


@pytest.fixture
def folder(tmp_path):
    return LetterFolder(tmp_path, max_bytes=1 << 20)


@pytest.fixture
def make(folder):
    posts = []

    def make(publish=None, **settings):
        posts.append(DeadLetterPost(folder, publish=publish, **settings))
        return posts[-1]

    yield make
    for post in posts:
        post.close(0.0)


def offsets(letters):
    return sorted(letter.offset for letter in letters)


def test_a_topic_takes_letters_and_the_folder_what_it_does_not(make, folder):
    topic = Topic(lambda letter: letter.offset != 2)
    metrics, safe = Metrics(), []
    post = make(topic, metrics=metrics)
    for offset in range(4):
        post.post(letter(offset), lambda offset=offset: safe.append(offset))
    assert post.wait(30)
    assert offsets(topic.letters) == [0, 1, 3]
    assert offsets(folder.letters()) == [2]
    assert (post.sent, post.failed, sorted(safe)) == (4, 0, [0, 1, 2, 3])
    (counted,) = metrics.snapshot()[catalogue.DEAD_LETTERS.name]["values"]
    assert counted == {"labels": {"kind": "undecodable"}, "value": 4}


@pytest.mark.parametrize("fault", [lambda letter: False, lambda letter: 1 / 0], ids=["none", "raises"])
def test_a_topic_that_takes_none_is_left_alone_for_a_while(make, folder, fault, caplog):
    topic = Topic(fault)
    post = make(topic)
    for offset in range(3):
        post.post(letter(offset))
        assert post.wait(30)
    assert topic.calls == 1
    assert offsets(folder.letters()) == [0, 1, 2]
    assert caplog.text.count("takes no letters") == 1


def test_nobody_waits_for_a_topic_that_hangs_and_what_is_too_much_is_given_up(make, folder, caplog):
    topic, told = Topic(), []
    topic.open.clear()
    post = make(topic, max_waiting_bytes=5_000)
    post.post(letter(0))
    while not topic.calls:
        pass
    for offset in range(1, 10):
        post.post(letter(offset), lambda offset=offset: told.append(offset))
    assert told == [5, 6, 7, 8, 9]  # at once: nobody may hold a commit back for them
    assert post.failed == 5
    assert "too many wait" in caplog.text
    topic.open.set()
    assert post.wait(30)
    assert offsets(topic.letters) == [0, 1, 2, 3, 4]


def test_where_there_is_no_room_the_letter_is_counted_logged_and_told_of(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    metrics, told = Metrics(), []
    post = DeadLetterPost(LetterFolder(tmp_path / "file", max_bytes=1 << 20), metrics=metrics)
    for offset in range(3):
        post.post(letter(offset), lambda: told.append(1))
    assert post.wait(30)
    post.close()
    assert (post.sent, post.failed, len(told)) == (0, 3, 3)
    assert metrics.snapshot()[catalogue.FAILED_DEAD_LETTERS.name]["values"][0]["value"] == 3
    assert caplog.text.count("is lost") == 1
    assert "smi.documents[2] offset 0" in caplog.text


def test_after_its_end_a_post_gives_up_what_it_is_given(make, folder):
    post, told = make(), []
    post.post(letter(0))
    post.close()
    post.post(letter(1), lambda: told.append(1))
    assert offsets(folder.letters()) == [0]
    assert (post.failed, told) == (1, [1])


def test_what_waits_at_the_end_is_left_for_the_next_and_nobody_is_told(make, caplog):
    topic, told = Topic(), []
    topic.open.clear()
    post = make(topic)
    post.post(letter(0))
    while not topic.calls:
        pass
    for offset in range(1, 4):
        post.post(letter(offset), lambda offset=offset: told.append(offset))
    post.close(0.0)
    assert (told, post.failed) == ([], 0)
    assert "3 dead letters are not sent off" in caplog.text
    topic.open.set()
