from shopreport.orders import parse_orders
from shopreport.totals import Totals, add_up


def build_report(lines):
    """The report of a day, as text, from the lines of its orders file."""
    orders, problems = parse_orders(lines)
    totals = add_up(orders)
    return "".join(
        line + "\n"
        for line in [*revenue_section(totals), *best_seller_section(totals), *problem_section(problems)]
    )


def revenue_section(totals: Totals):
    yield "REVENUE"
    for name, country in sorted(totals.countries.items(), key=lambda item: (-item[1].revenue, item[0])):
        count = len(country.orders)
        noun = "order" if count == 1 else "orders"
        yield f"  {name:<4}{money(country.revenue):>12}  {count} {noun}"
    revenue = sum(country.revenue for country in totals.countries.values())
    yield f"  all {money(revenue):>12}"


def best_seller_section(totals: Totals):
    """The first three, and those who share the last of their ranks."""
    if not totals.items:
        return
    yield "BEST SELLERS"
    sold = [(name, item) for name, item in totals.items.items() if item.pieces > 0]
    sold.sort(key=lambda pair: (-pair[1].pieces, -pair[1].revenue, pair[0]))
    for name, item in sold:
        rank = 1 + sum(other.pieces > item.pieces for _, other in sold)
        if rank <= 3:
            yield f"  {rank}. {name}: {item.pieces} for {money(item.revenue)}"


def problem_section(problems):
    if problems:
        yield "PROBLEMS"
    for number, what in problems:
        yield f"  line {number}: {what}"


def money(cents):
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02}"
