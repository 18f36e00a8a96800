"""The shop's models, one module a service."""

from examples.ecommerce.models.analytics import OrderAnalytics, ProductAnalytics, UserEvent
from examples.ecommerce.models.carts import Cart
from examples.ecommerce.models.inventory import Product, Stock, Supplier
from examples.ecommerce.models.orders import Order, OrderItem, OrderStatus
from examples.ecommerce.models.payments import Payment
from examples.ecommerce.models.users import User, UserPreferences, UserProfile

__all__ = [
    "User",
    "UserProfile",
    "UserPreferences",
    "Order",
    "OrderItem",
    "OrderStatus",
    "Payment",
    "Product",
    "Stock",
    "Supplier",
    "UserEvent",
    "OrderAnalytics",
    "ProductAnalytics",
    "Cart",
]
