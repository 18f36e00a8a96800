# The services, and where their databases are. Paths are relative to this file; secrets come from the environment:
#   url = "postgresql+asyncpg://shop:$${USERS_PASSWORD}@db.example.com/users"

models = ["$package.models"]

[services.users]
url = $users

[services.orders]
url = $orders

[services.inventory]
url = $inventory
