"""Makes training rows of what was shown and what was done: events as ratings, and what was seen and passed over.

    python -m online_to_offline.s2_training_rows

Why: an event says what a user liked, and not what they could have had instead. The list that they acted on does.

- An event answers the list whose request it names, if that list showed the item to the user; else the last list that
  showed it to them within WINDOW_SECONDS before, unless other events name that list: a client that does has left it
  out with reason. Other events answer no list: the user found the item elsewhere.
- Of each list that was acted on, the items down to the last one acted on were seen. Those that were acted on are
  positives where they are liked; those above the last one that were passed over, and that the user has not rated at any
  time, are exposed negatives. What stands below the last one may never have been looked at, and is left out.

The events become ratings in the data set's own ids, in the order of their arrival: `make retrain` reads them beside the
original ones. And the log is checked: the features that the ranking model got are computed again from the artefacts, by
the functions that made the training rows.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data_exchange_center import catalogue
from data_exchange_center.arrays import BoolArray
from data_exchange_center.columns import Column, LogColumn
from data_exchange_center.commit import writing
from data_exchange_center.dataset import DatasetDocument
from data_exchange_center.log_tables import LIST_KEY, LogRows
from data_exchange_center.stage import run_stage
from online_to_offline.recomputed_features import FEATURE_READS, CheckedFeatures, check_features

READS = (catalogue.IMPRESSIONS_LOG, catalogue.EVENTS_LOG, catalogue.DATASET, *FEATURE_READS)
WRITES = (catalogue.EVENT_RATINGS, catalogue.EXPOSURES, catalogue.LOG_ROWS)

WINDOW_SECONDS = 1_800
PAIR = [Column.USERID, Column.ITEMID]
LIST, ACTED_BY = LogColumn.LIST, "acted by"  # columns of the joining alone
BY_NAME, BY_TIME, BY_NONE = 2, 1, 0


def answered(events: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """The events with the list that each answers.

    Args:
        events: EVENTS_LOG, in the order of arrival.
        shown: IMPRESSIONS_LOG with the column LIST, a number that rises from list to list.

    Returns:
        The events with LIST, -1 where there is none, and ACTED_BY, how it was found.
    """
    events = events.reset_index(drop=True).assign(row=lambda table: table.index)
    columns = [LIST, LogColumn.MILLISECONDS, LogColumn.REQUEST_ID, *PAIR]
    named = events.dropna(subset=[LogColumn.REQUEST_ID]).merge(
        shown[columns].drop(columns=LogColumn.MILLISECONDS), on=[LogColumn.REQUEST_ID, *PAIR]
    )
    rows = events["row"].to_numpy()
    by_name = named.groupby("row")[LIST].max().reindex(rows)  # a client may use an id twice: the later list counts
    before = pd.merge_asof(
        events.sort_values(LogColumn.MILLISECONDS, kind="stable")[["row", LogColumn.MILLISECONDS, *PAIR]],
        shown[columns].drop(columns=LogColumn.REQUEST_ID).sort_values(LogColumn.MILLISECONDS, kind="stable"),
        on=LogColumn.MILLISECONDS,
        by=PAIR,
        tolerance=WINDOW_SECONDS * 1000,
    )
    by_time = before.set_index("row")[LIST].reindex(rows)
    by_time = by_time.mask(by_time.isin(by_name.dropna()))
    is_named = by_name.notna().to_numpy()
    found = np.where(is_named, by_name, by_time).astype(np.float64)
    found = np.where(np.isnan(found), -1, found).astype(np.int64)
    how = np.where(is_named, BY_NAME, np.where(found >= 0, BY_TIME, BY_NONE))
    return events.assign(**{LIST: found, ACTED_BY: how}).drop(columns="row")


def exposures(events: pd.DataFrame, shown: pd.DataFrame, dataset: DatasetDocument) -> pd.DataFrame:
    """What was seen of the lists that were acted on; see this module's beginning for the rule.

    Args:
        events: as from `answered`.
        shown: as for `answered`.
        dataset: says which ratings are positives.

    Returns:
        Catalogue entry EXPOSURES.
    """
    # Of an item that was rated again the last rating counts, as in preprocessing.
    acts = events[events[LIST] >= 0].drop_duplicates([LIST, *PAIR], keep="last")
    rows = shown.merge(acts[[LIST, *PAIR, Column.RATING]], on=[LIST, *PAIR], how="left")
    is_act = rows[Column.RATING].notna()
    last = rows[LogColumn.POSITION].where(is_act).groupby(rows[LIST]).transform("max")
    rated = pd.MultiIndex.from_frame(rows[PAIR]).isin(pd.MultiIndex.from_frame(events[PAIR]))
    seen = rows[(rows[LogColumn.POSITION] <= last) & (is_act | ~rated)]
    acted = seen[Column.RATING].notna().to_numpy()
    is_named = seen[LIST].isin(acts.loc[acts[ACTED_BY] == BY_NAME, LIST]).to_numpy()
    label = acted & dataset.scale.are_positive(seen[Column.RATING].fillna(dataset.scale.lowest).to_numpy(np.float32))
    found: dict[str, BoolArray] = {LogColumn.NAMED: is_named, LogColumn.ACTED: acted, Column.LABEL: label}
    seen = seen.assign(**{name: values.astype(np.uint8) for name, values in found.items()})
    return seen.loc[:, catalogue.EXPOSURES.present_schema.names]


def event_ratings(events: pa.Table) -> pa.Table:
    """Catalogue entry EVENT_RATINGS; an event that was logged twice, as a cluster may, stands there once."""
    key = events.to_pandas()[[*PAIR, Column.TIMESTAMP]]
    once = pc.filter(events, pa.array(~key.duplicated(keep="first").to_numpy()))
    return once.select(catalogue.EVENT_RATINGS.present_schema.names)


def report(events: pd.DataFrame, seen: pd.DataFrame, lists: int, checked: CheckedFeatures) -> LogRows:
    """Catalogue entry LOG_ROWS."""
    how = events[ACTED_BY].to_numpy()
    return LogRows(
        lists=lists,
        events=len(events),
        answering_by_name=int((how == BY_NAME).sum()),
        answering_by_time=int((how == BY_TIME).sum()),
        window_seconds=WINDOW_SECONDS,
        positives=int(seen[Column.LABEL].sum()),
        exposed_negatives=int((seen[LogColumn.ACTED] == 0).sum()),
        checked=checked.items,
        different=checked.different,
        unchecked_lists=checked.unchecked_lists,
    )


def main() -> None:
    """Joins, checks, writes."""
    log, logged_events = catalogue.IMPRESSIONS_LOG.load(), catalogue.EVENTS_LOG.load()
    dataset = catalogue.DATASET.load()
    ratings = event_ratings(logged_events)
    shown = log.drop_columns([LogColumn.RECENT_ITEMS, LogColumn.RECENT_RATINGS]).to_pandas()
    shown[LIST] = shown.groupby(LIST_KEY, sort=False).ngroup()
    events = answered(logged_events.to_pandas(), shown)
    seen = exposures(events, shown, dataset)
    checked = check_features(log, dataset)
    found = report(events, seen, int(shown[LIST].nunique()), checked)
    with writing(WRITES) as out:
        out.save(catalogue.EVENT_RATINGS, ratings)
        out.save(catalogue.EXPOSURES, pa.Table.from_pandas(seen, preserve_index=False))
        out.save(catalogue.LOG_ROWS, found)
    answering = found.answering_by_name + found.answering_by_time
    print(f"{found.events:,} events, {answering:,} of them answer one of {found.lists:,} lists")
    print(f"{found.positives:,} positives and {found.exposed_negatives:,} exposed negatives in these lists")
    print(f"{found.checked:,} shown items' features computed again: {found.different:,} differences")
    for reason, lists in found.unchecked_lists.items():
        print(f"  {lists:,} lists not checked: {reason}")


if __name__ == "__main__":
    run_stage(main)
