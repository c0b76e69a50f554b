"""Whether a server responds over HTTP."""

import requests

TIMEOUT = 5.0


def responds(url: str, user: str = "", password: str = "") -> bool:
    """Whether a GET of the address ends with status 200.

    Args:
        url: of this stack's own server, so that no proxy of the environment has a say.
        user, password: for basic authentication, where there is a password.
    """
    with requests.Session() as session:
        session.trust_env = False
        if password:
            session.auth = (user, password)
        try:
            return session.get(url, timeout=TIMEOUT).status_code == requests.codes.ok
        except requests.RequestException:
            return False
