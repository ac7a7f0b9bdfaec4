from reconcile.match import Result, match
from reconcile.model import Invoice, Payment

__all__ = ["Invoice", "Payment", "Result", "match"]
