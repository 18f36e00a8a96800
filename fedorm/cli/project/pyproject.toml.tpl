[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"

[project]
name = "$name"
version = "0.1.0"
description = "Users, orders and an inventory in databases of their own."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["fedorm[$extras]"]

[project.optional-dependencies]
test = ["fedorm[sqlite]", "pytest>=8.4", "pytest-asyncio>=1.1"]

[tool.hatch.build.targets.wheel]
packages = ["$package"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
