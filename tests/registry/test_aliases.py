"""Aliases move in one step, and every move is on record."""

from __future__ import annotations

import errno
import os
import threading
from datetime import datetime

import pytest

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry


@pytest.fixture
def shelf(registry: ModelRegistry, write) -> ModelRegistry:
    for _ in range(3):
        registry.publish("sft", write)
    return registry


def test_a_move_is_recorded_with_where_from_and_why(shelf: ModelRegistry) -> None:
    shelf.set_alias("production", "sft/1")
    shelf.set_alias("production", "sft@latest", reason="better at sums")
    shelf.set_alias("staging", "production")
    assert shelf.aliases() == {"production": "sft/3", "staging": "sft/3"}, "an alias keeps a version, not another alias"
    moves = shelf.alias_moves()
    assert [(move.alias, move.source, move.target, move.reason) for move in moves] == [
        ("production", None, "sft/1", ""),
        ("production", "sft/1", "sft/3", "better at sums"),
        ("staging", None, "sft/3", ""),
    ]
    assert all("@" in move.user and move.time.endswith("+00:00") for move in moves)


def test_one_word_never_means_two_things(shelf: ModelRegistry, write) -> None:
    with pytest.raises(LifecycleError, match='"sft" is the name of a model'):
        shelf.set_alias("sft", "sft/1")
    shelf.set_alias("production", "sft/1")
    with pytest.raises(LifecycleError, match='"production" is an alias of sft/1'):
        shelf.publish("production", write)
    (shelf.root / "sft").rename(shelf.root / "production")  # by hand
    with pytest.raises(LifecycleError, match="ambiguous"):
        shelf.resolve("production")


def test_an_alias_needs_a_good_name_and_a_version(shelf: ModelRegistry) -> None:
    with pytest.raises(LifecycleError, match="cannot be an alias"):
        shelf.set_alias("Prod/1", "sft/1")
    with pytest.raises(LifecycleError, match="choose one of sft/1"):
        shelf.set_alias("production", "sft/9")
    assert shelf.aliases() == {}


def test_an_alias_whose_version_is_gone_says_so(shelf: ModelRegistry) -> None:
    shelf.set_alias("production", "sft/3")
    (shelf.root / "sft" / "3").rename(shelf.root / "gone")
    with pytest.raises(LifecycleError, match='alias "production" points to sft/3.*no longer has; there is sft/1, sft/2'):
        shelf.resolve("production")


def test_a_move_that_a_crash_cut_short_never_happened(shelf: ModelRegistry) -> None:
    shelf.set_alias("production", "sft/1")
    log = shelf.root / "aliases.jsonl"
    whole = log.read_bytes()
    shelf.set_alias("production", "sft/2")
    second = log.read_bytes()[len(whole) :]
    for length in range(len(second)):
        log.write_bytes(whole + second[:length])
        assert shelf.aliases() == {"production": "sft/1"}
        assert shelf.set_alias("production", "sft/3").source == "sft/1"
        assert shelf.aliases() == {"production": "sft/3"}


@pytest.mark.parametrize("line", ["{", "[]", '{"alias": "production"}', "\\xff"])
def test_a_corrupt_log_names_the_line(shelf: ModelRegistry, line: str) -> None:
    shelf.set_alias("production", "sft/1")
    log = shelf.root / "aliases.jsonl"
    log.write_text(log.read_text() + line + "\n")
    with pytest.raises(LifecycleError, match=r"aliases\.jsonl, line 2"):
        shelf.resolve("production")


def test_moves_made_at_once_are_all_recorded_in_one_order(shelf: ModelRegistry) -> None:
    targets = [f"sft/{1 + index % 3}" for index in range(24)]
    threads = [threading.Thread(target=shelf.set_alias, args=("production", target)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moves = shelf.alias_moves()
    assert sorted(move.target for move in moves) == sorted(targets)
    assert [move.source for move in moves] == [None, *(move.target for move in moves[:-1])]


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "Read-only file system")])
def test_what_cannot_be_written_leaves_the_alias_where_it_was(shelf: ModelRegistry, monkeypatch, number, words) -> None:
    shelf.set_alias("production", "sft/1")

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(LifecycleError, match=f'cannot move alias "production" .*{words}; it points where it did') as refused:
            shelf.set_alias("production", "sft/2")
    assert "\n" not in str(refused.value) and shelf.aliases() == {"production": "sft/1"} and len(shelf.alias_moves()) == 1
    shelf.set_alias("production", "sft/2")
    assert shelf.aliases() == {"production": "sft/2"}


def test_a_clock_that_goes_backwards_changes_no_order(shelf: ModelRegistry, monkeypatch) -> None:
    shelf.set_alias("production", "sft/2")

    class Yesterday(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2001, 1, 1, tzinfo=tz)

    monkeypatch.setattr("lifecycle.registry.aliases.datetime", Yesterday)
    shelf.set_alias("production", "sft/1")
    assert shelf.aliases() == {"production": "sft/1"}
    assert [move.target for move in shelf.alias_moves()] == ["sft/2", "sft/1"] and shelf.alias_moves()[1].time.startswith("2001")
