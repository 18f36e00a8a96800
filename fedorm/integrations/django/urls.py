"""Routes that tell of the federation: ``path("internal/", include("fedorm.integrations.django.urls"))``."""

from __future__ import annotations

from django.urls import path

from fedorm.integrations.django.views import health, metrics

app_name = "fedorm"
urlpatterns = [path("health", health, name="health"), path("metrics", metrics, name="metrics")]
