"""Establishes that versions are promoted and rolled back without a failed or mixed list, or refused with the reason."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.speed import promotions
from benchmarks.userids import served_userids
from data_exchange_center.log_entries import ShownList
from data_exchange_center.serving_names import REDIS_IMPRESSIONS, REDIS_PROMOTED
from data_exchange_center.settings import Settings
from data_exchange_center.triton_models import RANKER
from offline_to_online import ranking_versions
from offline_to_online.exported_model import trained_ranker
from offline_to_online.loader import LoadError
from offline_to_online.model_repository import model_folder
from offline_to_online.rank import promote
from offline_to_online.ranking_versions import (
    MOST_REMEMBERED,
    RankingVersion,
    superfluous,
    with_promoted,
)
from online.callers.promoted_versions import PromotedVersions
from online.callers.redis_stores import redis_client
from online.callers.triton_caller import TritonCaller
from online.callers.types import ServiceUnavailable, StoreFault
from online.main.app import create_app
from online.main.current import ENGINE
from online.main.request_log import close_log
from online.served_version import LOOK_SECONDS
from testkit.stack import in_force
from tests.conftest import Stack, succeed


def told(load: str = "l", weights: str = "w") -> RankingVersion:
    return RankingVersion(dataset="d", loaded_at="t", feature_hash="h", load_digest=load, state_digest=weights)


# --- without a server ------------------------------------------------------------------------------------------------


def test_room_is_made_by_the_oldest_and_by_other_loads_and_never_by_what_is_served() -> None:
    stored = {version: told() for version in range(1, 6)}
    assert superfluous(stored, "l", ()) == {1, 2}  # a fourth one is to come
    assert superfluous(stored, "l", (5,)) == {1, 2}
    assert superfluous(stored, "l", (3, 4, 2, 1)) == {3, 4}  # 1 is served, 2 was before
    assert superfluous(stored, "l", (5, 1)) == {2, 3}
    assert superfluous({1: told("k"), 2: told("k"), 3: told()}, "l", (1, 2)) == {1, 2}
    assert superfluous({}, "l", ()) == set()


def test_what_is_gone_is_no_longer_remembered() -> None:
    stored = {1: told(), 3: told(), 4: told()}
    assert with_promoted((), 1, stored) == (1,)
    assert with_promoted((1, 3, 2, 3), 4, stored) == (1, 3, 4)
    assert with_promoted((1, 4), 4, stored) == (1, 4)
    assert len(with_promoted((1, 3) * MOST_REMEMBERED, 4, stored)) == MOST_REMEMBERED


# --- on the stack ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(stack: Stack) -> Iterator[tuple[int, int]]:
    """The served version and one of other weights, loaded beside it."""
    with in_force(stack.env) as settings, promotions.another_version(settings) as versions:
        yield versions


@pytest.fixture
def pointer(served: Stack) -> PromotedVersions:
    return PromotedVersions(Settings(), 5)


def test_every_list_is_of_the_version_that_it_names(pair: tuple[int, int], served: Stack) -> None:
    # Few enough clients that no service is late: what is tested is the switch, not the load.
    report = promotions.measure(Settings(), served_userids()[:40], pair, switches=6, clients=4)
    assert promotions.is_good(report), report
    assert set(report["lists_by_version"]) == {str(version) for version in pair} and report["requests"] > 200
    assert report["users_whose_lists_differ"] > 30 and report["late_most_ms"] < 600


def test_lists_are_drafted_from_two_versions_and_scored_in_the_shadow(
    pair: tuple[int, int], served: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = pair
    arms = f"""
        [[experiments]]
        name = "model"
        salt = "a"
        interleaved = true
        arms = [{{name = "present"}}, {{name = "other", settings = {{model_version = "{other}"}}}}]
        [[experiments]]
        name = "watched"
        salt = "b"
        arms = [{{name = "one"}}, {{name = "two", settings = {{shadow_version = "{other}"}}}}]
    """
    (tmp_path / "experiments.toml").write_text(arms)
    monkeypatch.setenv("EXPERIMENTS_FILE", str(tmp_path / "experiments.toml"))
    app = create_app()
    client, lists = app.test_client(), {}
    app.extensions[ENGINE].warm_up()
    for userid in served_userids()[20:30]:  # the other version's first answers take long, too
        client.get(f"/recommend?userid={userid}")
    for userid in served_userids()[:20]:
        content = client.get(f"/recommend?userid={userid}&size=20", buffered=True).get_json()
        assert content["model_version"] == f"{first}+{other}" and "degraded" not in content
        lists[userid] = content
    close_log(app)
    app.extensions[ENGINE].close()
    with redis_client(Settings(), 5) as client_of_redis:
        newest = client_of_redis.xrevrange(REDIS_IMPRESSIONS, count=30)
    logged = [ShownList.model_validate_json(content) for _, fields in newest for content in fields.values()]
    entries = [entry for entry in logged if entry.userid in lists and "model:interleaved" in entry.arm]
    assert len(entries) == len(lists)
    watched = 0
    for entry in entries:
        items, experiments = lists[entry.userid]["items"], lists[entry.userid]["experiments"]
        assert entry.items == [item["itemid"] for item in items] and entry.teams == [item["arm"] for item in items]
        assert entry.teams.count("present") == entry.teams.count("other") == 10
        if experiments["watched"] == "one":
            assert entry.shadow_version is None
            continue
        watched += 1
        assert entry.shadow_version == str(other)
        # What the other version picked stands in its own order, and has its own scores.
        places = [place for place, team in zip(entry.shadow_positions, entry.teams, strict=True) if team == "other"]
        assert places == sorted(places) and entry.shadow_positions.count(1) == 1
        own = [
            score - shadow
            for score, shadow, team in zip(entry.scores, entry.shadow_scores, entry.teams, strict=True)
            if team == "other"
        ]
        assert own == pytest.approx([0] * 10, abs=1e-4)
    assert 3 < watched < 17


def test_a_list_of_other_scores_is_found() -> None:
    looked = promotions.Looked(known={"1": {7: {5: 0.5}}, "2": {7: {5: 0.6}}})
    looked.look(7, 0.0, {"model_version": "2", "items": [{"itemid": 5, "score": 0.6}]})
    assert not looked.mixed
    looked.look(7, 0.0, {"model_version": "1", "items": [{"itemid": 5, "score": 0.6}]})
    looked.look(7, 0.0, {"model_version": "1", "items": [{"itemid": 6, "score": 0.5}]})
    looked.look(7, 0.0, {"model_version": None, "items": [{"itemid": 5, "score": 0.5}]})
    assert len(looked.mixed) == 3


def test_the_verb_serves_and_checks_a_version_by_its_own_weights(
    pair: tuple[int, int], pointer: PromotedVersions, served: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artefacts hold the weights of the first version; the check knows those of the second."""
    first, other = pair
    printed = succeed("offline_to_online.rank.promote", "--version", str(other), **served.env)
    assert f"ml_rec version {other} is served" in printed and "users and items are equal offline and online" in printed
    settings, triton = Settings(), TritonCaller(Settings(), 5)
    lines = promote.table(settings, pointer, triton).splitlines()[2:]
    states = {line.split()[0]: line.split()[-1] for line in lines}
    assert states[str(first)] == "loaded" and states[str(other)] == "served"
    assert served.recommend(served_userids()[0])["model_version"] == str(other)
    monkeypatch.setattr(promote, "check_passes", lambda: True)
    promote.rollback(settings, pointer, triton)
    time.sleep(4 * LOOK_SECONDS)
    assert served.recommend(served_userids()[0])["model_version"] == str(first)


def test_a_version_that_cannot_be_served_is_refused_before_anything_changes(
    pair: tuple[int, int], pointer: PromotedVersions, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, triton, before = Settings(), TritonCaller(Settings(), 5), pointer.promoted()
    folder = model_folder(settings, RANKER)

    def refused(version: int, match: str) -> None:
        with pytest.raises(LoadError, match=match):
            promote.promote(version, settings, pointer, triton)
        assert pointer.promoted() == before

    refused(999, rf"no version 999; there are: .*{pair[1]}")
    with monkeypatch.context() as patched:
        patched.setattr(ranking_versions, "load_digest", lambda: "another")
        refused(pair[1], "is of the load .*, and the artefacts have another")
    shutil.copytree(folder / str(pair[1]), folder / "998")
    try:
        refused(998, "version 998 is not loaded in every Triton")
    finally:
        shutil.rmtree(folder / "998")
    kept = (folder / str(pair[1]) / ranking_versions.STATE_FILE).read_bytes()
    try:
        shutil.copy(folder / str(pair[0]) / ranking_versions.STATE_FILE, folder / str(pair[1]))
        refused(pair[1], "other weights than were exported")
    finally:
        (folder / str(pair[1]) / ranking_versions.STATE_FILE).write_bytes(kept)
    model = trained_ranker()
    with pytest.raises(LoadError, match="features another"):
        ranking_versions.check_belongs(replace(model, feature_hash="another"))
    model.module.knowledge.vectors[3] += 1  # type: ignore[union-attr, index]
    with pytest.raises(LoadError, match="beside another user tower"):
        ranking_versions.check_belongs(model)


def test_a_failed_check_serves_again_what_was_served(
    pair: tuple[int, int], pointer: PromotedVersions, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, triton, before, seen = Settings(), TritonCaller(Settings(), 5), pointer.promoted(), list[str]()

    def fails() -> bool:
        seen.append(pointer.served())
        return False

    monkeypatch.setattr(promote, "check_passes", fails)
    with pytest.raises(LoadError, match=f"failed with version {pair[1]}: version {pair[0]} is served again"):
        promote.promote(pair[1], settings, pointer, triton)
    assert seen == [str(pair[1])] and pointer.promoted() == before

    monkeypatch.setattr(promote, "check_passes", lambda: True)
    promote.promote(pair[1], settings, pointer, triton)
    assert pointer.promoted() == (*before, pair[1])
    promote.rollback(settings, pointer, triton)
    assert pointer.promoted() == before
    assert not pointer.replace((*before, 77), (77,)) and pointer.promoted() == before
    while len(pointer.promoted()) > 1:
        promote.rollback(settings, pointer, triton)
    with pytest.raises(LoadError, match="no version was served before"):
        promote.rollback(settings, pointer, triton)


def test_a_pointer_that_cannot_be_read_is_a_fault(pointer: PromotedVersions, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pointer.promoted()
    try:
        pointer._ask(lambda client: client.set(REDIS_PROMOTED, "no list"))
        with pytest.raises(StoreFault, match="redis"):
            pointer.served()
    finally:
        pointer._ask(lambda client: client.delete(REDIS_PROMOTED))
        assert pointer.served() == "" and pointer.replace((), before)
    monkeypatch.setenv("REDIS_PORT", "1")
    with pytest.raises(ServiceUnavailable, match="redis"):
        PromotedVersions(Settings(), 1).served()
