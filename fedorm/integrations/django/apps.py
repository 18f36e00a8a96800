"""The app that brings the management command."""

from __future__ import annotations

from django.apps import AppConfig


class FedormConfig(AppConfig):
    """The app; it has no models of Django's."""

    name = "fedorm.integrations.django"
    label = "fedorm"
    verbose_name = "fedorm"
