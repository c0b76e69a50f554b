"""Requests a list from the running server and prints the top list as a table.

python -m online.main.s2_client --userid 1 --size 10
"""

import argparse
import sys

import pyarrow.compute as pc
import requests
from tabulate import tabulate

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.external_ids import ExternalId
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage

TIMEOUT = 10.0


def first_user() -> ExternalId:
    """The data set's first user, by the id as it came."""
    userid = catalogue.USER_FILTER.load([Column.USERID])[Column.USERID][0]
    if Column.USERID not in catalogue.DATASET.load().text_ids:
        return userid.as_py()
    users = catalogue.USERS.load([Column.USERID, Column.EXTERNAL_USERID])
    return users[Column.EXTERNAL_USERID][pc.index(users[Column.USERID], userid).as_py()].as_py()


def main() -> None:
    """One request, one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--userid", help="the first of the data set unless given")
    parser.add_argument("--size", default="50")
    arguments, settings = parser.parse_args(), Settings()
    userid = arguments.userid or first_user()
    url = f"http://{settings.web_host}:{settings.web_port}/recommend"
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy of the environment has a say in how the own server is reached
            response = session.get(url, params={"userid": userid, "size": arguments.size}, timeout=TIMEOUT)
    except requests.ConnectionError:
        print(f"error: nothing responds at {url}: start the server with `make serve`.", file=sys.stderr)
        sys.exit(1)
    content = response.json()
    if not response.ok:
        fault = content["error"]
        print(f"error: {fault['field']}: {fault['rule']} (got {fault['got']})", file=sys.stderr)
        sys.exit(1)
    rows = [
        [
            place,
            item["itemid"],
            item["title"],
            ", ".join(item["genres"]),
            f"{item['score']:.3f}",
            "+".join(item["recalled_by"]),
        ]
        for place, item in enumerate(content["items"], start=1)
    ]
    # A text such as 007 stays as it is.
    as_text = [place for place in (1, 2) if rows and isinstance(rows[0][1], str)]
    print(tabulate(rows, ["", "item", "title", "genres", "score", "recalled by"], disable_numparse=as_text))
    notes = {key: content[key] for key in ("dataset", "model_version", "fallback", "degraded") if content.get(key)}
    print(f"user {content['userid']}: " + ", ".join(f"{key} {value}" for key, value in notes.items()))


if __name__ == "__main__":
    run_stage(main)
