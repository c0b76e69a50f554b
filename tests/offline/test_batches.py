"""Establishes that rows read in blocks are those in memory: each once an epoch, few at a time, and fitted as well."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from data_exchange_center import catalogue
from offline import batches
from offline.batches import Batches, from_blocks
from offline.fitting import Schedule
from offline.metrics import auc
from offline.rank import stored_rows
from offline.rank.s2_model_train import read_frame, thinned
from offline.rank.training import FrameRows, HyperParameters, fit, score
from tests.conftest import Offline

BLOCK, BLOCKS, HELD, SIZE = 100, 7, 230, 64
ROWS = BLOCK * BLOCKS - 30  # the last block is shorter


def numbered(read: list[int]) -> Batches:
    """Rows that are their own numbers; what is read is written down."""

    def read_block(block: int) -> tuple[torch.Tensor, ...]:
        rows = torch.arange(block * BLOCK, min((block + 1) * BLOCK, ROWS))
        read.append(len(rows))
        return rows, rows * 2

    return from_blocks(read_block, BLOCKS, ROWS, HELD, lambda rows: SIZE)


def test_every_row_is_in_one_batch_and_few_are_in_memory() -> None:
    read: list[int] = []
    rows, epochs = numbered(read), []
    for _ in range(3):
        read.clear()
        given: list[int] = []
        for (column, double), share in rows.epoch():
            given += column.tolist()
            assert share == 1 and 0 < len(column) <= SIZE and torch.equal(double, column * 2)
            assert sum(read) - len(given) < HELD + BLOCK
        assert sorted(given) == list(range(ROWS)) and len(read) == BLOCKS
        epochs.append(given)
    assert epochs[0] != epochs[1] != epochs[2] and rows.steps == -(-ROWS // SIZE)
    first = np.array(epochs[0][: HELD // 2]) // BLOCK
    assert len(set(first.tolist())) > 1, "blocks are mixed"


def test_processes_with_unequal_rows_take_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their shares of every batch add up to 1."""
    counts = np.array([670, 331, 12])
    monkeypatch.setattr(batches, "gathered", lambda own: counts)
    shares, steps = [], set()
    for process, count in enumerate(counts):
        monkeypatch.setattr(batches, "rank", lambda process=process: process)
        rows = from_blocks(lambda _, count=count: (torch.arange(count),), 1, int(count), 9, lambda rows: SIZE)
        epoch = list(rows.epoch())
        assert sorted(torch.cat([columns[0] for columns, _ in epoch]).tolist()) == list(range(count))
        shares.append([share for _, share in epoch])
        steps.add(rows.steps)
    assert steps == {-(-counts.sum() // SIZE)}
    np.testing.assert_allclose(np.sum(shares, axis=0), 1)


@pytest.fixture
def both(artefacts: Offline, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[tuple[FrameRows, FrameRows], ...]]:
    """Rows of train and of valid, in memory and read in some dozens of blocks."""
    monkeypatch.setattr(stored_rows, "ROW_GROUP", 3000)
    frames = [read_frame(catalogue.DATASET.load().features, memory) for memory in (None, 1)]
    yield tuple((rows.select(parts.train), rows.select(parts.valid)) for parts, rows in frames)


def test_rows_read_in_blocks_are_those_in_memory(both: tuple[tuple[FrameRows, FrameRows], ...]) -> None:
    for held, stored in zip(*both, strict=True):
        columns, read = ([torch.cat(parts) for parts in zip(*rows.blocks(), strict=True)] for rows in (held, stored))
        assert all(torch.equal(one, other) for one, other in zip(columns, read, strict=True))
        assert (held.labels == stored.labels).all()
        epoch = [columns for columns, _ in stored.batches(torch.device("cpu")).epoch()]
        given = torch.cat([torch.cat([sparse, dense, labels[:, None]], 1) for sparse, dense, labels in epoch])
        expected = torch.cat([*columns, torch.from_numpy(held.labels)[:, None]], 1).float()
        for rows in (given, expected):
            order = np.lexsort(rows.numpy().T)
            rows[:] = rows[torch.from_numpy(order)]
        assert torch.equal(given, expected)


def test_a_fit_from_blocks_is_as_good(both: tuple[tuple[FrameRows, FrameRows], ...]) -> None:
    sizes, found, models = catalogue.FEATURE_META.load().vocabulary_sizes, [], []
    for train, valid in both:
        schedule = Schedule(4, lambda model, rows=valid: auc(rows.labels, score(model, rows)))
        model, best = fit(train, HyperParameters(0.015, "dense+side"), sizes, schedule, 1)
        found.append(best.value)
        models.append(model)
    torch.testing.assert_close(models[0].mean, models[1].mean)
    torch.testing.assert_close(models[0].std, models[1].std)
    assert found[0] == pytest.approx(found[1], abs=0.01) and found[1] > 0.65


def test_thinned_rows_are_some_of_them() -> None:
    rows = np.random.default_rng(0).random(1000) < 0.5
    kept = thinned(rows, 100, 0)
    assert kept.sum() == 100 and not (kept & ~rows).any()
    assert thinned(rows, 1000, 0) is rows
