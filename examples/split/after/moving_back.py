# moving_back.py
import shop.models  # noqa: F401 - whose tables are copied
from fedorm.sync import copy_service

copy_service("users", to="new_users", back=True)
copy_service("catalogue", to="new_catalogue", back=True)
