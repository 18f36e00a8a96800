"""The Django example, watched."""

from examples.web.django_app import app as example
from fedorm.integrations.django.sessions import federation
from tests.integrations.watched import watched_asgi

app = watched_asgi(example, federation())
