"""Make the index that customers search in."""

from fedorm.stores.elasticsearch_schema import Indices


class Forward:
    """What upgrade does."""

    async def change(self, es: Indices) -> None:
        """Make it with its mapping."""
        await es.create_index(
            "product_texts",
            mappings={
                "dynamic": "strict",
                "properties": {
                    "category": {"type": "keyword"},
                    "id": {"type": "keyword"},
                    "name": {"analyzer": "english", "fields": {"keyword": {"type": "keyword"}}, "type": "text"},
                    "price": {"type": "double"},
                    "sku": {"type": "keyword"},
                    "tags": {"type": "keyword"},
                },
            },
            settings={"gc_deletes": "1h", "number_of_shards": 1},
        )


class Backward:
    """What downgrade does."""

    async def change(self, es: Indices) -> None:
        """Delete it."""
        await es.drop_index("product_texts")
