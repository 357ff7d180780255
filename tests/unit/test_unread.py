"""Messages of streams are paced by their bytes, project by project."""

from shared.runtime.unread import MESSAGE_BYTES_PER_SECOND, UnreadAnswers


def test_large_messages_of_a_project_wait_for_one_another_and_for_nobody_else() -> None:
    now = 1_000.0
    unread = UnreadAnswers(10**9, per_project=10**9, wait_seconds=1, clock=lambda: now)
    half = MESSAGE_BYTES_PER_SECOND // 2
    waits = [unread.reserve(half, "loud") for _ in range(6)]
    assert waits == [0, 0, 0, 0.5, 1.0, 1.5], "a burst of a second, and each of its streams after that"
    assert unread.reserve(half, "quiet") == 0
    now += 60
    assert unread.reserve(half, "loud") == 0, "who rests has a burst again"
