"""Takes the walk of the readmes, and writes what the commands print and what was measured into the documents.

    python -m docs.walk             after `make run`, in the same clone and with the same settings
    python -m docs.walk --fill      numbers and tables only, without running a command

Every command of a step whose output the readmes show is run, in the readmes' order, on the stack that is up; the order
is that of the pipeline, so that the stack is as consistent afterwards as it was before. Numbers come from the reports
under RUN_DIR that exist; of those that don't, the numbers committed in docs/results.json stay.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys

from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from docs.pages import READMES, all_pages, recorded_steps, with_outputs, with_results, with_tables
from docs.reference import all_tables
from docs.results import REPORTS, asked_for, kept, measured_now, read_results, write_results
from services.readiness import responds

DEFAULT_DATASET = "generated"
TIMEOUT = 900.0  # seconds, of a step
PASSWORD_IN_ENV_FILE = "$(sed -n 's/^ES_PASSWORD=//p' .env)"
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class WalkError(Exception):
    """A step cannot be taken; the message names it and the remedy."""

    is_expected = True


def ports(settings: Settings) -> dict[str, str]:
    """The address of each port that a document may name, and the address in these settings."""
    fields = [name for name in Settings.model_fields if name.endswith("_port")]
    return {
        f"127.0.0.1:{Settings.model_fields[name].default}": f"127.0.0.1:{getattr(settings, name)}" for name in fields
    }


def as_run_here(commands: str, settings: Settings) -> str:
    """Commands of a document as they are run with these settings and this interpreter.

    The password of Elasticsearch is expected in the variable ES_PASSWORD.
    """
    for documented, here in ports(settings).items():
        commands = re.sub(rf"{re.escape(documented)}\b", here, commands)
    commands = commands.replace(PASSWORD_IN_ENV_FILE, "$ES_PASSWORD")
    return commands.replace(".venv/bin/python", shlex.quote(sys.executable))


def as_documented(output: str, settings: Settings) -> str:
    """What was printed, without this machine's folders, ports and colours."""
    output = ANSI_COLOUR.sub("", output).replace(f"{ROOT}/", "")
    for documented, here in ports(settings).items():
        output = re.sub(rf"{re.escape(here)}\b", documented, output)
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    return "".join(f"{line}\n" for line in lines)


def run_step(name: str, commands: str, settings: Settings, environment: dict[str, str] | None = None) -> str:
    """Runs the commands of a step, one after the other; returns what they print on stdout.

    Raises:
        WalkError: one ends with another status than 0.
    """
    password = {"ES_PASSWORD": settings.es_password.get_secret_value()}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", as_run_here(commands, settings)],
        cwd=ROOT,
        env={**os.environ, **password, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise WalkError(f"the step {name} ends with status {done.returncode}:\n{commands}{done.stdout}{done.stderr}")
    return done.stdout


def record(settings: Settings) -> dict[str, str]:
    """The output of every step of the readmes.

    Raises:
        WalkError: no server responds, or a step fails.
    """
    address = f"http://{settings.web_host}:{settings.web_port}/ready"
    if not responds(address):
        raise WalkError(f"{address} does not say that the stack is ready: `make run` first.")
    outputs = {}
    for step in recorded_steps(READMES[0].read_text("utf-8")):
        print(f"{step.name} ...", flush=True)
        outputs[step.name] = as_documented(run_step(step.name, step.commands, settings), settings)
    return outputs


def main() -> None:
    """Records, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fill", action="store_true", help="numbers and tables only, without running a command")
    arguments, settings = parser.parse_args(), Settings()
    if settings.dataset_name != DEFAULT_DATASET or settings.seed != Settings.model_fields["seed"].default:
        raise WalkError("the documents tell of the default data set: unset DATASET, DATA_DIR and SEED.")
    outputs = {} if arguments.fill else record(settings)
    sections = measured_now(settings)
    results = kept(sections, read_results(), asked_for())
    write_results(results)
    tables = all_tables()
    for page in all_pages():
        text = page.read_text("utf-8")
        written = with_tables(with_results(with_outputs(text, outputs), results), tables)
        if written != text:
            page.write_text(written, "utf-8")
            print(f"wrote {page.relative_to(ROOT)}")
    for name, command in REPORTS.items():
        if name not in sections:
            print(f"kept the numbers of an earlier {name}: `{command}` and `python -m docs.walk --fill` replace them")


if __name__ == "__main__":
    run_stage(main)
