from dataclasses import dataclass


@dataclass(frozen=True)
class Invoice:
    id: str
    reference: str
    amount: int  # cents


@dataclass(frozen=True)
class Payment:
    id: str
    reference: str  # as the customer typed it; often empty
    amount: int  # cents


def normal(reference: str) -> str:
    return "".join(reference.split()).upper()
