"""Triton without Docker: the tritonserver inside nvidia-pytriton, with a Python-based ONNX backend."""

import os
import shutil
import subprocess
from pathlib import Path

from data_exchange_center.settings import ROOT, Settings
from services.folders import plain_path
from services.processes import Port, Recorder, ServiceError
from services.readiness import responds

TRITON_ENVIRONMENT = ROOT / ".venv-triton"
# Prints the version, the folder of the packages and the folder of libpython, a line each.
ASK_PYTHON = """
import sys, sysconfig
print(*sys.version_info[:2], sep=".")
print(sysconfig.get_path("purelib"))
print(sysconfig.get_config_var("LIBDIR"))
"""


def ports(settings: Settings) -> list[Port]:
    """Where Triton listens: for HTTP, for gRPC and with its metrics."""
    return [
        Port(settings.triton_host, port, "Triton", setting)
        for port, setting in (
            (settings.triton_http_port, "TRITON_HTTP_PORT"),
            (settings.triton_grpc_port, "TRITON_GRPC_PORT"),
            (settings.triton_metrics_port, "TRITON_METRICS_PORT"),
        )
    ]


def is_ready(settings: Settings) -> bool:
    """Whether Triton responds."""
    return responds(f"http://{settings.triton_host}:{settings.triton_http_port}/v2/health/ready")


def start(settings: Settings, recorder: Recorder, name: str = "triton") -> None:
    """The tritonserver inside nvidia-pytriton, with a Python-based backend under the name of the C++ ONNX one."""
    python = TRITON_ENVIRONMENT / "bin/python"
    if not python.exists():
        raise ServiceError(f"{TRITON_ENVIRONMENT} is missing: run `make install`.")
    version, packages_folder, libraries_folder = subprocess.run(
        [str(python), "-c", ASK_PYTHON],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    packages = Path(packages_folder)
    server = packages / "pytriton/tritonserver"
    backends = _backends(settings.folder(settings.services_dir) / "triton-backends", server, version)
    models = settings.artefacts / "online/triton"
    models.mkdir(parents=True, exist_ok=True)
    libraries = [str(packages / "nvidia_pytriton.libs"), libraries_folder, os.environ.get("LD_LIBRARY_PATH", "")]
    env = {
        "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
        # The backend's stub takes its packages from the python first on the PATH; it ignores PYTHONPATH.
        "PATH": f"{TRITON_ENVIRONMENT / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": "",
    }
    command = [
        str(server / "bin/tritonserver"),
        f"--model-repository={plain_path(models)}",
        f"--backend-directory={plain_path(backends)}",
        "--model-control-mode=explicit",  # versions are loaded when the loader says so, without a restart
        "--load-model=*",
        "--exit-on-error=false",
        f"--http-address={settings.triton_host}",
        f"--http-port={settings.triton_http_port}",
        f"--grpc-address={settings.triton_host}",
        f"--grpc-port={settings.triton_grpc_port}",
        f"--metrics-address={settings.triton_host}",
        f"--metrics-port={settings.triton_metrics_port}",
        "--allow-gpu-metrics=false",
        "--disable-auto-complete-config",
    ]
    recorder.start(name, command, env, models)


def _backends(folder: Path, server: Path, python_version: str) -> Path:
    """A backend folder of the python backend and, under `onnxruntime`, the project's Python-based one."""
    stub = server / f"python_backend_stubs/{python_version}/triton_python_backend_stub"
    if not stub.exists():
        raise ServiceError(
            f"nvidia-pytriton has no stub for Python {python_version}: make {TRITON_ENVIRONMENT} with Python 3.11."
        )
    for backend in ("python", "onnxruntime"):
        (folder / backend).mkdir(parents=True, exist_ok=True)
    for file in (*(server / "backends/python").glob("*.*"), stub):
        _replace(file, folder / "python" / file.name)
    _replace(ROOT / "services/triton_onnxruntime_backend.py", folder / "onnxruntime/model.py")
    return folder


def _replace(source: Path, target: Path) -> None:
    """Copies beside the target and moves: another stack may be running the file that is there."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(source, beside)
    os.replace(beside, target)
