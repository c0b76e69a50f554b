"""Makes pic/page.png, the picture of the page in both READMEs, from the running server.

python -m benchmarks.screenshot          (while `make run` is up; needs Chromium)
"""

import argparse
import shutil
import sys

from playwright.sync_api import sync_playwright

from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage

PICTURE = ROOT / "pic/page.png"


def main() -> None:
    """Opens the page, waits for 50 rows, takes the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--userid", default="2")
    arguments, settings = parser.parse_args(), Settings()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        print("error: Chromium is missing (Debian: apt install chromium).", file=sys.stderr)
        sys.exit(1)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        for _ in range(3):  # the times of a warm server
            page.goto(f"http://{settings.web_host}:{settings.web_port}/?user={arguments.userid}")
            page.locator("#items tr").nth(49).wait_for()
            page.wait_for_timeout(500)
        page.screenshot(path=PICTURE)
        browser.close()
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    run_stage(main)
