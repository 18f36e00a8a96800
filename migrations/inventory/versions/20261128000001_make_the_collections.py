"""Make the collections."""

from fedorm.migrate.collections import schema_migration
from fedorm.stores.mongodb_schema import Collections


class Forward:
    """The way forward."""

    @schema_migration()
    async def change(self, db: Collections) -> None:
        """Make collections and indexes."""
        await db.create_collection("fedorm_decisions")
        await db.create_collection("fedorm_inbox")
        await db.create_index("fedorm_inbox", "at_1", [("at", 1)])
        await db.create_collection("fedorm_outbox")
        await db.create_index("fedorm_outbox", "id", [("id", 1)], unique=True)
        await db.create_index("fedorm_outbox", "waiting", [("state", 1), ("partition", 1), ("position", 1)])
        await db.create_collection("fedorm_outbox_counters")
        await db.create_collection("fedorm_outbox_deliveries")
        await db.create_index("fedorm_outbox_deliveries", "partition_1_key_1", [("partition", 1), ("key", 1)])
        await db.create_index("fedorm_outbox_deliveries", "position_1", [("position", 1)])
        await db.create_index("fedorm_outbox_deliveries", "target_1_next_at_1", [("target", 1), ("next_at", 1)])
        await db.create_collection("fedorm_outbox_partitions")
        await db.create_collection("fedorm_saga_steps")
        await db.create_collection("fedorm_sync_positions")
        await db.create_collection("inventory")
        await db.create_index("inventory", "sku_1_warehouse_1", [("sku", 1), ("warehouse", 1)], unique=True)
        await db.create_collection("products")
        await db.create_index("products", "replaced_by_sku_1", [("replaced_by_sku", 1)])
        await db.create_index("products", "sku_1", [("sku", 1)], unique=True)
        await db.create_index("products", "supplier_id_1", [("supplier_id", 1)])
        await db.create_collection("suppliers")


class Backward:
    """The way back."""

    @schema_migration()
    async def change(self, db: Collections) -> None:
        """Drop them."""
        await db.drop_collection("fedorm_decisions")
        await db.drop_collection("fedorm_inbox")
        await db.drop_collection("fedorm_outbox")
        await db.drop_collection("fedorm_outbox_counters")
        await db.drop_collection("fedorm_outbox_deliveries")
        await db.drop_collection("fedorm_outbox_partitions")
        await db.drop_collection("fedorm_saga_steps")
        await db.drop_collection("fedorm_sync_positions")
        await db.drop_collection("inventory")
        await db.drop_collection("products")
        await db.drop_collection("suppliers")
