"""Takes the picture of the page from the running server, beside the reports.

    python -m benchmarks.screenshot          (while `make run` is up; needs Chromium)

Writes charts/page.png and page.json under RUN_DIR; `python -m benchmarks.quality.charts --publish` copies the picture
to pic/, for the readmes.
"""

import argparse
import shutil
import sys

from playwright.sync_api import sync_playwright

from benchmarks.quality.replay import check_served
from benchmarks.report import charts_folder, machine, write_report
from data_exchange_center import catalogue
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage


def main() -> None:
    """Opens the page, waits for 50 rows, takes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--userid", default="2")
    arguments, settings = parser.parse_args(), Settings()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        print("error: Chromium is missing (Debian: apt install chromium).", file=sys.stderr)
        sys.exit(1)
    check_served(settings)
    file = charts_folder(settings) / "page.png"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        for _ in range(3):  # the last picture shows the times of a warm server
            page.goto(f"http://{settings.web_host}:{settings.web_port}/?user={arguments.userid}")
            page.locator("#items tr").nth(49).wait_for()
            page.wait_for_timeout(500)
        page.screenshot(path=file)
        browser.close()
    dataset = catalogue.DATASET.load()
    write_report(settings, "page", {"dataset": dataset.dataset, "seed": dataset.seed, "machine": machine()})
    print(f"wrote {file}")


if __name__ == "__main__":
    run_stage(main)
