"""Establishes how a loader's worker processes fail, and what it says of what it reads back."""

import os

import numpy as np
import pytest

from data_exchange_center.settings import Settings
from offline_to_online.loader import LoadError, how_many_checked, processes_for, rows_to_check, run_tasks
from offline_to_online.recall.s1_user_to_redis import load_slice, tasks_of
from offline_to_online.recall.user_recall import user_slices, users_with_rows
from online.callers.types import ServiceUnavailable
from testkit.stack import free_ports
from tests.conftest import Offline


def test_a_killed_worker_is_one_sentence() -> None:
    with pytest.raises(LoadError, match="one of 2 worker processes was killed.*LOAD_PROCESSES"):
        list(run_tasks(os._exit, [9, 9], 2))


def test_what_a_worker_raises_arrives_as_it_is(artefacts: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("REDIS_PORT", str(port))
    userids = users_with_rows()
    tasks = tasks_of(user_slices(userids, 500), np.arange(len(userids)), None)
    with pytest.raises(ServiceUnavailable, match="redis cannot be used: .*; start it with `make services`") as raised:
        list(run_tasks(load_slice, tasks, 2))
    assert raised.value.service == "redis"


def test_few_users_get_one_process_and_many_as_many_as_are_allowed() -> None:
    assert [processes_for(users, Settings(load_processes=4)) for users in (0, 6040, 39_999, 60_400, 10**7)] == [
        *(1, 1, 1, 3, 4)
    ]
    assert processes_for(10**9, Settings()) == len(os.sched_getaffinity(0))


def test_a_sample_is_drawn_above_the_stated_size_and_said() -> None:
    settings = Settings(load_check_up_to=1000)
    assert rows_to_check(1000, settings).tolist() == list(range(1000))
    assert how_many_checked(1000, "users", settings) == "every one"
    sample = rows_to_check(1001, settings)
    assert len(sample) == 1000 and (np.diff(sample) > 0).all() and sample[-1] <= 1000
    np.testing.assert_array_equal(rows_to_check(1001, settings), sample)
    assert how_many_checked(1001, "users", settings) == "a sample of 1,000 of 1,001 users (LOAD_CHECK_UP_TO=1000)"
