"""Django: an app, a middleware, a management command, a database router and test cases.

In the settings: ``"fedorm.integrations.django"`` in ``INSTALLED_APPS``,
``"fedorm.integrations.django.middleware.SessionMiddleware"`` in ``MIDDLEWARE``, and
``FEDORM = {"SERVICES": {...}}``, or ``{"CONFIG": "fedorm.toml"}``, or ``{"FEDERATION": "shop.services.fed"}``.
"""
