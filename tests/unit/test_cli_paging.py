"""Reading as many rows as were asked for, in pages."""

from lodestream_proto.v1.query_pb2 import Freshness, ListTracesResponse
from lodestream_proto.v1.trace_pb2 import TraceSummary

from services.edge.cli.paging import Pages, gather


class Book:
    """A list of so many traces, in pages of at most `biggest`."""

    def __init__(self, rows: int, biggest: int = 1_000) -> None:
        self.rows = [TraceSummary(name=str(number)) for number in range(rows)]
        self.biggest = biggest
        self.asked: list[int] = []

    def page(self, size: int, token: str) -> ListTracesResponse:
        self.asked.append(size)
        begin = int(token or 0)
        end = begin + min(size, self.biggest)
        rows, more = self.rows[begin:end], end < len(self.rows)
        freshness = Freshness(lag_ms=len(self.rows) - end)
        return ListTracesResponse(traces=rows, next_page_token=str(end) if more else "", freshness=freshness)


def gathered(book: Book, limit: int | None, token: str = "") -> ListTracesResponse:
    return gather(Pages(limit, token), book.page, lambda answer: answer.traces)


def test_one_page_is_enough_for_a_small_limit() -> None:
    book = Book(rows=120)
    answer = gathered(book, 50)
    assert [len(answer.traces), answer.next_page_token, book.asked] == [50, "50", [50]]


def test_a_large_limit_takes_several_pages_and_says_where_it_goes_on() -> None:
    book = Book(rows=5_000)
    answer = gathered(book, 2_500)
    assert [trace.name for trace in answer.traces] == [str(number) for number in range(2_500)]
    assert answer.next_page_token == "2500"
    assert answer.freshness.lag_ms == 2_500  # the last page's
    assert book.asked == [1_000, 1_000, 500]


def test_all_means_all_from_the_page_that_is_named() -> None:
    answer = gathered(Book(rows=25, biggest=10), None, token="5")
    assert [trace.name for trace in answer.traces] == [str(number) for number in range(5, 25)]
    assert answer.next_page_token == ""


def test_pages_may_be_smaller_than_asked_for() -> None:
    book = Book(rows=25, biggest=10)
    assert len(gathered(book, 20).traces) == 20
    assert book.asked == [20, 10]


def test_an_empty_list_is_an_answer() -> None:
    assert not gathered(Book(rows=0), None).traces
