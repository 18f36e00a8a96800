"""Users, their orders, and the inventory, in databases of their own."""
