"""Establishes that a request is one trace: its calls under one root, in whatever order they begin and end."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from data_exchange_center.settings import Settings
from online.breakers import Breakers
from online.callers.types import ServiceUnavailable
from online.engine import Engine
from online.opentelemetry_tracer import OpenTelemetryTracer
from online.roles import SERVICES
from services.readiness import responds
from testkit.stack import free_ports
from tests.conftest import ROOT, Stack
from tests.online.stand_ins import DATA, Services, backends_of

CALLER = {"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


@pytest.fixture
def noted() -> Iterator[tuple[OpenTelemetryTracer, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    tracer = OpenTelemetryTracer([exporter])
    yield tracer, exporter
    tracer.close()


def spans_of(tracer: OpenTelemetryTracer, exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    tracer.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def test_the_calls_of_a_request_are_children_of_its_span_which_is_its_callers_child(
    noted: tuple[OpenTelemetryTracer, InMemorySpanExporter],
) -> None:
    tracer, exporter = noted
    engine = Engine(backends_of(Services(down=("triton",))), lambda: DATA, lambda: None, 60.0, 2, tracer=tracer)
    with tracer.begin_request("GET /recommend", CALLER).within():
        engine.recommend(1, 3)
        handed_on = tracer.headers()["traceparent"]
    engine.close()
    spans = spans_of(tracer, exporter)
    assert set(spans) == {"GET /recommend", *SERVICES}  # what the engine asked in the background is in no trace
    root = spans.pop("GET /recommend")
    assert root.parent is not None and f"{root.parent.span_id:x}" == "b7ad6b7169203331"
    assert f"{root.context.trace_id:x}" in CALLER["Traceparent"] and f"{root.context.trace_id:x}" in handed_on
    assert {span.parent.span_id for span in spans.values() if span.parent} == {root.context.span_id}
    assert [name for name, span in spans.items() if not span.status.is_ok and span.status.description] == ["triton"]
    feast, search = spans["feast"], spans["elasticsearch"]
    assert feast.start_time <= search.start_time <= search.end_time <= feast.end_time


def test_a_call_in_two_halves_hands_on_its_own_span_and_fails_once(
    noted: tuple[OpenTelemetryTracer, InMemorySpanExporter],
) -> None:
    tracer, exporter = noted
    sent: list[str] = []

    def request() -> object:
        sent.append(tracer.headers()["traceparent"])
        raise ServiceUnavailable("feast", "down")

    with tracer.begin_request("GET /x", {}).within():
        receive = Breakers(tracer).send("feast", request)
        with pytest.raises(ServiceUnavailable):
            receive()
    spans = spans_of(tracer, exporter)
    assert f"{spans['feast'].context.span_id:016x}" in sent[0] and not spans["feast"].status.is_ok
    assert spans["GET /x"].parent is None and spans["GET /x"].status.is_ok


def test_a_request_to_the_real_server_is_one_trace_in_the_file(stack: Stack, tmp_path: Path) -> None:
    """Under gunicorn, whose workers are forked, with all four services; the trace's id is in the log."""
    (port,), file = free_ports(1), tmp_path / "traces.jsonl"
    env = {**stack.env, "WEB_PORT": str(port), "RUN_DIR": str(tmp_path), "TRACE_FILE": str(file), "WEB_WORKERS": "2"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "online.main.s1_server"], cwd=ROOT, env={**os.environ, **env}, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 30
        while not responds(f"{url}/health"):
            assert time.monotonic() < end, (tmp_path / "log").read_text("utf-8")
            time.sleep(0.1)
        user = requests.get(f"{url}/users", timeout=5).json()["users"][0]
        response = requests.get(f"{url}/recommend", {"userid": user}, headers={"X-Request-ID": "mine"}, timeout=5)
        assert response.status_code == 200 and "degraded" not in response.json()
    finally:
        server.terminate()
        server.wait(20)
    spans = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    (root,) = [span for span in spans if span["name"] == "GET /recommend"]
    assert root["attributes"]["recsys.request_id"] == "mine" and root["attributes"]["http.response.status_code"] == 200
    own = [span for span in spans if span["context"]["trace_id"] == root["context"]["trace_id"] and span != root]
    assert sorted(span["name"] for span in own) == sorted(SERVICES)
    assert {span["parent_id"] for span in own} == {root["context"]["span_id"]} and root["parent_id"] is None
    assert f'"trace_id": "{root["context"]["trace_id"].removeprefix("0x")}"' in (tmp_path / "log").read_text("utf-8")


def test_a_collector_gets_the_spans_by_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no proxy of the environment does."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(content)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        tracer = OpenTelemetryTracer.of(Settings(otel_exporter_otlp_endpoint=endpoint))
        with tracer.begin_request("GET /recommend", {}).within():
            with tracer.begin("redis").within():
                pass
        tracer.close()
        server.shutdown()
    ((path, request),) = received
    (of_service,) = request.resource_spans
    assert path == "/v1/traces"
    assert [span.name for span in of_service.scope_spans[0].spans] == ["redis", "GET /recommend"]
    names = {value.key: value.value.string_value for value in of_service.resource.attributes}
    assert names["service.name"] == "recsys_pipeline"


def test_without_a_setting_nothing_that_traces_or_exports_is_imported() -> None:
    """Redis's and Elasticsearch's clients import OpenTelemetry's metrics and API where they are installed."""
    script = (
        "import sys\n"
        "from data_exchange_center.settings import Settings\n"
        "from online.main.app import create_app\n"
        "from tests.online.stand_ins import Services, engine_on\n"
        "engine = engine_on(Services())\n"
        "create_app(Settings(), engine).test_client().get('/recommend?userid=1')\n"
        "engine.close()\n"
        "parts = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'online.opentelemetry_tracer')\n"
        "sys.exit(', '.join(name for name in sys.modules if name.startswith(parts)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
