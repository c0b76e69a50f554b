"""Gets the raw data by the settings DATASET and DATA_DIR.

    python -m offline.preprocess.movielens      (or: make data)

`DATASET=generated` writes it with synthetic/; the name of a MovieLens release (`ml-100k`, `ml-1m`, …) downloads that;
`DATA_DIR=folder` takes any folder in a layout that readers/ knows, told by its files.
"""

from pathlib import Path

from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.preprocess.readers.layout import DataSource
from offline.preprocess.readers.recognise import recognise
from offline.preprocess.readers.with_events import with_events
from offline.preprocess.releases import RELEASES, download
from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.oracle import ORACLE_FILE


def raw_data(settings: Settings) -> DataSource:
    """The raw data that the settings name, with the events of the last retraining that was promoted, if there was one.

    Raises:
        DataError: it is not there, or in no known layout; the message says how to get it.
    """
    remedy = "DATA_DIR must name a folder with all files of one layout" if settings.data_dir else "Run `make data`"
    return with_events(recognise(settings.raw_data, remedy), settings.artefacts)


def is_generated(folder: Path) -> bool:
    """Whether the present generator has written the folder: an earlier one wrote no oracle, and other ratings."""
    return (folder / "ratings.dat").is_file() and (folder / ORACLE_FILE).is_file()


def main() -> None:
    """Gets the data set if it is not there yet."""
    settings = Settings()
    folder = settings.raw_data
    if settings.data_dir is None:
        if settings.dataset == "generated" and not is_generated(folder):
            generate(folder, seed=settings.seed)
        elif release := RELEASES.get(settings.dataset):
            if not all((folder / name).is_file() for name in release.layout.required):
                download(release, folder)
    print(f"data set {settings.dataset_name}: {raw_data(settings).folder}")


if __name__ == "__main__":
    run_stage(main)
