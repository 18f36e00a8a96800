"""The Flask example, watched."""

from examples.web.flask_app import create_app
from tests.integrations.watched import watched_wsgi

example = create_app()
app = watched_wsgi(example, example.extensions["fedorm"].federation)
