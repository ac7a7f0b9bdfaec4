from dataclasses import dataclass

COUPONS = {"", "TENOFF", "FREEONE"}


class BadLine(Exception):
    """The line cannot be used."""


@dataclass(frozen=True)
class Order:
    number: str
    country: str
    item: str
    quantity: int
    unit_price: int
    coupon: str

    @property
    def amount(self):
        full = self.quantity * self.unit_price
        if self.quantity > 0 and self.coupon == "TENOFF":
            return full - (full + 9) // 10
        if self.quantity >= 3 and self.coupon == "FREEONE":
            return full - self.unit_price
        return full

    @property
    def has_unknown_coupon(self):
        return self.quantity > 0 and self.coupon not in COUPONS


def parse_orders(lines):
    """The usable orders, and the problems as pairs of line number and text."""
    orders = []
    problems = []
    first_lines = {}
    for number, line in content(lines):
        try:
            order = parse_line(line)
            refuse_duplicate(order, number, first_lines)
        except BadLine as problem:
            problems.append((number, str(problem)))
            continue
        orders.append(order)
        if order.has_unknown_coupon:
            problems.append((number, f"unknown coupon {order.coupon}"))
    return orders, problems


def content(lines):
    """The numbered lines without blanks, comments and the heading."""
    stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
    kept = [(number, line) for number, line in stripped if line and not line.startswith("#")]
    if kept and kept[0][1].lower().startswith("order,"):
        return kept[1:]
    return kept


def parse_line(line):
    columns = [column.strip() for column in line.split(",")]
    if len(columns) not in (5, 6):
        raise BadLine("wrong number of columns")
    number, country, item, quantity, unit_price, coupon = [*columns, ""][:6]
    try:
        order = Order(number, country.upper() or "??", item, int(quantity), int(unit_price), coupon)
    except ValueError:
        raise BadLine("not a number") from None
    if order.quantity == 0 or order.unit_price < 0:
        raise BadLine("out of range")
    return order


def refuse_duplicate(order, number, first_lines):
    first = first_lines.setdefault((order.number, order.item), number)
    if first != number:
        raise BadLine(f"same as line {first}")
