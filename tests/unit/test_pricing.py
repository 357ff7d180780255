"""What tokens cost."""

from pathlib import Path

import pytest

from shared.spans.pricing import PricesError, cost_of, load_prices, total_cost


def test_a_kind_without_a_price_costs_what_its_whole_costs() -> None:
    usage = {"input": 10, "input_cached_tokens": 4, "output": 5, "output_reasoning_tokens": 3, "total": 22}
    assert cost_of("mock-large", usage) == {
        "input": 20_000_000,
        "input_cached_tokens": 2_000_000,
        "output": 40_000_000,
        "output_reasoning_tokens": 24_000_000,
    }


@pytest.mark.parametrize(
    ("model", "dollars_a_million"),
    [("gpt-4o-mini-2024-07-18", 0.15), ("gpt-4o-2024-08-06", 2.5), ("openai/GPT-4o", 2.5), ("gpt-4.1-nano", 0.1)],
)
def test_the_longest_beginning_of_a_name_gives_the_price(model: str, dollars_a_million: float) -> None:
    assert total_cost(cost_of(model, {"input": 1_000_000})) == dollars_a_million * 10**12


def test_an_unknown_model_has_no_cost() -> None:
    assert cost_of("nobody-knows-it", {"input": 5}) is None
    assert cost_of(None, {"input": 5}) is None
    assert cost_of("gpt-4o", None) is None


def test_a_total_that_was_given_is_not_added_to_its_parts() -> None:
    assert total_cost({"input": 3, "output": 4}) == 7
    assert total_cost({"input": 3, "output": 4, "total": 9}) == 9
    assert total_cost(None) == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            '{"version": "1", "source": "", "models": [{"starts_with": "a", "prices": {"input": "x"}}]}',
            "models.0.prices.input",
        ),
        ('{"version": "1", "source": "", "models": [{"starts_with": "", "prices": {}}]}', "models.0.starts_with"),
        ("{", "the file"),
    ],
)
def test_a_table_that_cannot_be_used_names_the_field(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(PricesError, match=f"prices.json: {complaint}"):
        load_prices(file)


def test_a_missing_table_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(PricesError, match=r"nowhere\.json"):
        load_prices(tmp_path / "nowhere.json")
