from dataclasses import dataclass, field


@dataclass
class Country:
    revenue: int = 0
    orders: set = field(default_factory=set)


@dataclass
class Item:
    pieces: int = 0
    revenue: int = 0


@dataclass
class Totals:
    countries: dict = field(default_factory=dict)
    items: dict = field(default_factory=dict)


def add_up(orders):
    totals = Totals()
    for order in orders:
        country = totals.countries.setdefault(order.country, Country())
        country.revenue += order.amount
        country.orders.add(order.number)
        item = totals.items.setdefault(order.item, Item())
        item.pieces += order.quantity
        item.revenue += order.amount
    return totals
