"""The Django example for servers of WSGI, watched."""

from examples.web.django_app import wsgi as example
from fedorm.integrations.django.sessions import federation
from tests.integrations.watched import watched_wsgi

app = watched_wsgi(example, federation())
