"""What a model's tokens cost: a table in a file (prices.json, or the one LODESTREAM_PRICES names), versioned.

Prices are US dollars for a million tokens, by kind of usage. A kind without a price of its own costs what its whole
costs: `input_cached_tokens` like `input`, `output_reasoning_tokens` like `output`.
"""

from collections.abc import Mapping
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.runtime.settings import PriceSettings
from shared.spans.dialects.values import AMOUNT, MAX_PICOS, Cleaner

_SHIPPED = Path(__file__).with_name("prices.json")
_MODELS_REMEMBERED = 10_000  # emitters name them; some name one a request
_PICOS_A_TOKEN = Decimal(10**6)  # dollars for a million tokens → 10^-12 dollars for one


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    starts_with: str = Field(min_length=1)
    """The beginning of the model's name, without a provider before a slash. The longest match wins."""
    prices: Mapping[str, Decimal]


class PriceTable(BaseModel):
    """A file of prices."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: str
    source: str
    models: tuple[_Model, ...]

    def prices_of(self, model: str) -> Mapping[str, int]:
        """Picodollars a token by kind; empty for a model that is not in the table."""
        name = model.rpartition("/")[2].lower()
        matching = [entry for entry in self.models if name.startswith(entry.starts_with)]
        best = max(matching, key=lambda entry: len(entry.starts_with), default=None)
        return {kind: int(dollars * _PICOS_A_TOKEN) for kind, dollars in best.prices.items()} if best else {}


class PricesError(Exception):
    """The file of prices can't be used; the message names the file and the field."""


def load_prices(path: Path) -> PriceTable:
    """Read a table.

    Raises PricesError.
    """
    try:
        return PriceTable.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PricesError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise PricesError(f"{path}: {field}: {first['msg']}") from None


def cost_of(
    model: str | None, usage: Mapping[str, int] | None, changes: dict[str, int] | None = None
) -> dict[str, int] | None:
    """Picodollars by kind of usage; None when the model has no price or nothing was used.

    Each is at most MAX_PICOS; what is clamped is counted in `changes`, as a Cleaner does.
    """
    prices = _prices_of(model) if model and usage else {}
    if not prices or not usage:
        return None
    costs = {kind: amount * price for kind, amount in usage.items() if (price := _price(prices, kind)) is not None}
    for kind in [kind for kind, picos in costs.items() if picos > MAX_PICOS]:
        costs[kind] = MAX_PICOS
        Cleaner(changes).count(AMOUNT)
    return costs or None


def total_cost(cost: Mapping[str, int] | None) -> int:
    """All of a cost, in picodollars: its `total` where the emitter gave one, else the sum of its kinds."""
    if not cost:
        return 0
    return cost["total"] if "total" in cost else sum(cost.values())


def _price(prices: Mapping[str, int], kind: str) -> int | None:
    if kind == "total":
        return None
    return prices.get(kind, prices.get(kind.partition("_")[0]))


@cache
def _table() -> PriceTable:
    return load_prices(PriceSettings().prices or _SHIPPED)


@lru_cache(_MODELS_REMEMBERED)
def _prices_of(model: str) -> Mapping[str, int]:
    return _table().prices_of(model)
