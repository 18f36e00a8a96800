"""The FastAPI example, watched."""

from examples.web.fastapi_app import app as example
from examples.web.fastapi_app import fed
from tests.integrations.watched import watched_asgi

app = watched_asgi(example, fed)
