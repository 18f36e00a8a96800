__pycache__/
.venv/
.pytest_cache/
*.db
*.db-*
*.db.*
