"""Requests a list from the running server and prints the top list as a table.

python -m online.main.s2_client --userid 1 --size 10
"""

import argparse
import sys

import requests
from tabulate import tabulate

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage

TIMEOUT = 10.0


def main() -> None:
    """One request, one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--userid", help="the first of the data set unless given")
    parser.add_argument("--size", default="50")
    arguments, settings = parser.parse_args(), Settings()
    userid = arguments.userid or catalogue.USER_FILTER.load([Column.USERID])[Column.USERID][0].as_py()
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
    print(tabulate(rows, ["", "item", "title", "genres", "score", "recalled by"]))
    notes = {key: content[key] for key in ("dataset", "model_version", "fallback", "degraded") if content.get(key)}
    print(f"user {content['userid']}: " + ", ".join(f"{key} {value}" for key, value in notes.items()))


if __name__ == "__main__":
    run_stage(main)
