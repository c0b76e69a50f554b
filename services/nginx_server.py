"""nginx in front of a cluster's web servers and Feast servers: Debian's package, with a configuration made here."""

import os
import shutil
from pathlib import Path

from data_exchange_center.addresses import addresses
from data_exchange_center.settings import Settings
from services.processes import Port, Recorder, ServiceError
from services.readiness import responds

HEALTH = "/nginx-health"
ROOTS_FOLDERS = ("/usr/sbin", "/usr/local/sbin")  # where packages put it, and which are on root's PATH alone
# Requests are small: a larger body than the server takes is its to refuse, a much larger one ends here.
CONFIGURATION = """# Made by services/nginx_server.py at each start.
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;

events {{
    worker_connections 4096;
}}

http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;

    # Slow clients end here: the servers behind get whole requests, and nobody waits longer for a part of one.
    client_header_timeout 10s;
    client_body_timeout 10s;
    send_timeout 10s;
    keepalive_timeout 65s;
    client_max_body_size 1m;
    client_body_buffer_size 1m;
    proxy_max_temp_file_size 0;

    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_connect_timeout 1s;
    # All requests may be sent again to the next server, POST too: /recommend and Feast's reads change nothing, an event
    # counts once however often it comes, and of two pushes to Feast the later one's values stay.
    proxy_next_upstream error timeout http_502 non_idempotent;
    proxy_next_upstream_tries 2;

    upstream web {{
{web}
        keepalive 64;
        keepalive_timeout 20s;  # less than the servers', so that none closes a connection that is being used again
    }}

    upstream feast {{
{feast}
        keepalive 64;
        keepalive_timeout 1s;  # Feast's gunicorn closes an idle connection after 2
    }}

    server {{
        listen {web_address};
        # Longer than an event waits for a replica of Redis to become master.
        proxy_read_timeout 15s;
        location / {{
            proxy_pass http://web;
        }}
        location = {health} {{
            return 200;
        }}
        error_page 502 504 = @unavailable;
        location @unavailable {{
            default_type application/json;
            add_header Retry-After 1 always;
            return 503 '{{"error":{{"field":"web","rule":"cannot be used now; try again in a second","got":""}}}}';
        }}
        error_page 413 = @too_large;
        location @too_large {{
            default_type application/json;
            return 413 '{{"error":{{"field":"body","rule":"at most 16384 bytes","got":""}}}}';
        }}
    }}

    server {{
        listen {feast_address};
        client_max_body_size 16m;
        proxy_read_timeout 30s;
        location / {{
            proxy_pass http://feast;
        }}
    }}
}}
"""


def ports(settings: Settings) -> list[Port]:
    """Where nginx listens: for the clients of the web servers, and for those of the Feast servers."""
    return [
        Port(settings.web_host, settings.web_port, "nginx", "WEB_PORT"),
        Port(settings.feast_host, settings.feast_port, "nginx", "FEAST_PORT"),
    ]


def is_ready(settings: Settings) -> bool:
    """Whether nginx itself responds, whoever is behind it."""
    return responds(f"http://{settings.web_host}:{settings.web_port}{HEALTH}")


def configuration(settings: Settings, folder: Path) -> str:
    """The text of nginx.conf.

    Raises:
        ServiceError: the folder's name cannot stand in it.
    """
    if set(str(folder)) & set("\"'{{}};$\\ \t\n"):
        raise ServiceError(f"nginx cannot keep its files in {folder}: set RUN_DIR to a folder with a plain name.")
    web, feast = (
        "\n".join(f"        server {node} max_fails=2 fail_timeout=2s;" for node in addresses(nodes))
        for nodes in (settings.web_nodes, settings.feast_nodes)
    )
    return CONFIGURATION.format(
        folder=folder,
        web=web,
        feast=feast,
        web_address=f"{settings.web_host}:{settings.web_port}",
        feast_address=f"{settings.feast_host}:{settings.feast_port}",
        health=HEALTH,
    )


def start(settings: Settings, recorder: Recorder) -> None:
    """Starts nginx with its files in the stack's folder.

    Raises:
        ServiceError: it is not installed.
    """
    program = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), *ROOTS_FOLDERS]))
    if not program:
        raise ServiceError(
            "the cluster needs nginx in front of its web servers, and there is none: install it (Debian: "
            "apt install nginx-light) or use TOPOLOGY=single."
        )
    folder = recorder.folder / "nginx"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "nginx.conf"
    file.write_text(configuration(settings, folder), "utf-8")
    command = [program, "-c", str(file), "-p", str(folder), "-e", str(folder / "error.log")]
    recorder.start("nginx", command, {}, folder)
