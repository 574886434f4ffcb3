"""The contract of a journal's store, as a suite.

Subclass it in a test module as `class TestMyJournal(JournalContract)` and give it a fixture `journal` that yields a
fresh store. Nothing here waits: a lease of zero seconds has ended when it begins, and a due time in the past is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ..journal.journal import JournalStore, Known, Row, Status

ME, OTHER = "me", "other"
LONG, OVER = 3600.0, 0.0
KNOWN = Known({"Bus.first": 2, "Bus.second": 2}, frozenset({"default"}))
PAST = datetime(2000, 1, 1, tzinfo=UTC)


def row(id: str, target: str = "Bus.first", *, lane: str | None = None, **values: Any) -> Row:
    """A row with little in it."""
    given: dict[str, Any] = {"type": "Went", "version": 1, "body": b"{}", "correlation_id": "c", **values}
    return Row(id=id, target=target, lane=lane, **given)


async def append(journal: JournalStore, *rows: Row, owner: str = ME, lease: float = LONG) -> list[Row]:
    return [*await journal.append(rows, owner=owner, lease=lease)]


async def claim(
    journal: JournalStore, owner: str = ME, *, limit: int = 100, lease: float = LONG, known: Known = KNOWN
) -> list[str]:
    """The ids of what can be claimed, in the order in which it was appended."""
    rows = await journal.claim(limit=limit, owner=owner, lease=lease, known=known)
    return [claimed.id for claimed in sorted(rows, key=lambda claimed: claimed.seq)]


async def parked(journal: JournalStore, id: str, *, lane: str | None = None, hold: bool = False, **values: Any) -> int:
    """The number of a row that has become a dead letter."""
    (stored,) = await append(journal, row(id, lane=lane, **values))
    assert await journal.park(stored.seq, owner=ME, error="why", hold=hold)
    return stored.seq


class JournalContract:
    """What every store of a journal does."""

    # bury

    async def test_what_is_buried_is_a_dead_letter_at_once(self, journal: JournalStore) -> None:
        await journal.bury([row("a", headers={"channel": "c"}, attempts=3, error="why")])
        (dead,) = await journal.dead()
        assert (dead.id, dead.status, dead.attempts, dead.error) == ("a", Status.PARKED, 3, "why")
        assert dict(dead.headers) == {"channel": "c"}
        assert await claim(journal) == []

    async def test_burying_a_known_id_and_target_changes_nothing(self, journal: JournalStore) -> None:
        await append(journal, row("a"))
        await journal.bury([row("a", error="why"), row("b", error="first")])
        await journal.bury([row("b", error="second")])
        assert [(dead.id, dead.error) for dead in await journal.dead()] == [("b", "first")]

    async def test_what_is_buried_can_be_redriven_and_discarded(self, journal: JournalStore) -> None:
        await journal.bury([row("a", attempts=3, error="why"), row("b", error="why")])
        first, second = await journal.dead()
        assert await journal.redrive([first.seq]) == 1
        (claimed,) = await journal.claim(limit=9, owner=ME, lease=LONG, known=KNOWN)
        assert (claimed.id, claimed.attempts) == ("a", 1)
        assert await journal.discard([second.seq]) == 1
        assert await journal.dead() == []

    # append

    async def test_a_row_comes_back_as_it_was_given(self, journal: JournalStore) -> None:
        headers: Mapping[str, str] = {"time": "1.5", "traceparent": "00-é-01"}
        given = row(
            "a", lane="Bus:x", version=2, body=b'{"n": "\xc3\xa9"}', parent_id="p", correlation_id="c7", headers=headers
        )
        await append(journal, given, lease=OVER)
        (got,) = await journal.claim(limit=1, owner=OTHER, lease=LONG, known=KNOWN)
        for name in ("id", "target", "type", "version", "body", "correlation_id", "parent_id", "lane"):
            assert getattr(got, name) == getattr(given, name)
        assert dict(got.headers) == headers

    async def test_numbers_ascend_in_the_order_of_appending(self, journal: JournalStore) -> None:
        first = await append(journal, row("a"), row("b"))
        second = await append(journal, row("c"))
        numbers = [stored.seq for stored in (*first, *second)]
        assert [stored.id for stored in first] == ["a", "b"]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > 0

    async def test_a_row_is_born_leased_with_its_first_attempt_counted(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a"))
        assert stored.lease_owner == ME
        assert stored.attempts == 1
        assert await claim(journal, OTHER) == []

    async def test_a_known_id_and_target_is_left_as_it_is(self, journal: JournalStore) -> None:
        await append(journal, row("a", body=b"1"), lease=OVER)
        await append(journal, row("a", body=b"2"), row("b"))
        (claimed,) = await journal.claim(limit=9, owner=OTHER, lease=LONG, known=KNOWN)
        assert (claimed.id, claimed.body) == ("a", b"1")
        assert (await journal.stats()).pending == 2

    async def test_a_repetition_is_not_returned(self, journal: JournalStore) -> None:
        await append(journal, row("a"))
        assert [stored.id for stored in await append(journal, row("a"), row("b"))] == ["b"]

    async def test_one_message_may_have_several_targets(self, journal: JournalStore) -> None:
        stored = await append(journal, row("a", "Bus.first"), row("a", "Bus.second"))
        assert [each.target for each in stored] == ["Bus.first", "Bus.second"]

    async def test_a_delayed_row_is_not_leased_and_not_claimed_before_its_time(self, journal: JournalStore) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        (stored,) = await append(journal, row("a", due=later))
        assert stored.lease_owner is None
        assert stored.attempts == 0
        assert await claim(journal) == []

    async def test_a_row_due_in_the_past_is_due(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a", due=PAST))
        assert stored.lease_owner == ME

    async def test_rows_of_one_lane_are_leased_together_to_one_owner(self, journal: JournalStore) -> None:
        stored = await append(journal, row("a", lane="l"), row("b", lane="l"))
        assert [each.lease_owner for each in stored] == [ME, ME]

    async def test_a_row_behind_another_owners_waits(self, journal: JournalStore) -> None:
        await append(journal, row("a", lane="l"), owner=OTHER)
        (stored,) = await append(journal, row("b", lane="l"))
        assert stored.lease_owner is None
        assert await claim(journal) == []

    async def test_a_row_behind_one_that_waits_is_not_leased(self, journal: JournalStore) -> None:
        (first,) = await append(journal, row("a", lane="l"))
        await journal.retry(first.seq, owner=ME, error="x", delay=LONG)
        (second,) = await append(journal, row("b", lane="l"))
        assert second.lease_owner is None

    async def test_nothing_to_append_is_nothing(self, journal: JournalStore) -> None:
        assert await append(journal) == []

    # claim

    async def test_a_row_is_claimed_when_its_lease_is_over(self, journal: JournalStore) -> None:
        await append(journal, row("a"), lease=OVER)
        (claimed,) = await journal.claim(limit=1, owner=OTHER, lease=LONG, known=KNOWN)
        assert claimed.lease_owner == OTHER
        assert claimed.attempts == 2
        assert await claim(journal, ME) == []

    async def test_no_more_than_the_limit_is_claimed(self, journal: JournalStore) -> None:
        await append(journal, *(row(str(n)) for n in range(5)), lease=OVER)
        assert len(await claim(journal, OTHER, limit=3)) == 3
        assert len(await claim(journal, OTHER, limit=3)) == 2

    async def test_the_oldest_are_claimed_first(self, journal: JournalStore) -> None:
        await append(journal, *(row(str(n)) for n in range(4)), lease=OVER)
        assert await claim(journal, OTHER, limit=2) == ["0", "1"]

    async def test_only_the_head_of_a_lane_is_claimed(self, journal: JournalStore) -> None:
        await append(journal, row("a", lane="l"), row("b", lane="l"), row("c", lane="m"), lease=OVER)
        assert await claim(journal, OTHER) == ["a", "c"]

    async def test_the_next_of_a_lane_is_claimed_when_the_head_is_done(self, journal: JournalStore) -> None:
        first, _ = await append(journal, row("a", lane="l"), row("b", lane="l"), lease=OVER)
        await claim(journal, OTHER)
        await journal.complete([first.seq], owner=OTHER)
        assert await claim(journal, OTHER) == ["b"]

    async def test_an_unknown_handler_is_left_to_others(self, journal: JournalStore) -> None:
        await append(journal, row("a", "Bus.gone"), row("b", "Bus.first"), lease=OVER)
        assert await claim(journal, OTHER) == ["b"]

    async def test_a_newer_version_is_left_to_others(self, journal: JournalStore) -> None:
        await append(journal, row("a", version=3), row("b", version=2), row("c", version=1), lease=OVER)
        assert await claim(journal, OTHER) == ["b", "c"]

    async def test_sends_are_claimed_by_who_has_the_transport(self, journal: JournalStore) -> None:
        await append(journal, row("a", "default:x"), row("b", "elsewhere:x"), lease=OVER)
        assert await claim(journal, OTHER) == ["a"]
        assert await claim(journal, OTHER, known=Known({}, frozenset({"elsewhere"}))) == ["b"]

    async def test_who_knows_nothing_claims_nothing(self, journal: JournalStore) -> None:
        await append(journal, row("a"), lease=OVER)
        assert await claim(journal, OTHER, known=Known({})) == []

    # complete

    async def test_a_done_row_is_never_claimed(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a"))
        assert await journal.complete([stored.seq], owner=ME) == 1
        assert await claim(journal, OTHER) == []

    async def test_completing_without_holding_does_nothing(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a"), lease=OVER)
        await claim(journal, OTHER)
        assert await journal.complete([stored.seq], owner=ME) == 0
        assert await journal.complete([stored.seq], owner=OTHER) == 1

    async def test_completing_twice_counts_once(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a"))
        assert await journal.complete([stored.seq, stored.seq], owner=ME) == 1
        assert await journal.complete([stored.seq], owner=ME) == 0

    async def test_an_overdue_lease_still_belongs_to_its_owner_until_somebody_claims(
        self, journal: JournalStore
    ) -> None:
        (stored,) = await append(journal, row("a"), lease=OVER)
        assert await journal.complete([stored.seq], owner=ME) == 1

    # retry

    async def test_a_retry_is_due_after_its_delay(self, journal: JournalStore) -> None:
        soon, late = await append(journal, row("a"), row("b"))
        assert await journal.retry(soon.seq, owner=ME, error="x", delay=0.0)
        assert await journal.retry(late.seq, owner=ME, error="x", delay=LONG)
        assert await claim(journal, OTHER) == ["a"]

    async def test_a_retry_keeps_the_count_and_the_error(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a"))
        await journal.retry(stored.seq, owner=ME, error="it broke", delay=0.0)
        (again,) = await journal.claim(limit=1, owner=OTHER, lease=LONG, known=KNOWN)
        assert again.attempts == 2
        assert again.error == "it broke"

    async def test_a_lane_waits_for_the_retry_of_its_head(self, journal: JournalStore) -> None:
        first, second = await append(journal, row("a", lane="l"), row("b", lane="l"))
        await journal.retry(first.seq, owner=ME, error="x", delay=LONG)
        await journal.release([second.seq], owner=ME)
        assert await claim(journal) == []

    async def test_only_the_owner_retries(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a"))
        assert not await journal.retry(stored.seq, owner=OTHER, error="x", delay=0.0)
        assert await claim(journal, OTHER) == []

    # release

    async def test_a_released_row_is_free_at_once_and_its_attempt_not_counted(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a"))
        assert await journal.release([stored.seq], owner=ME) == 1
        (again,) = await journal.claim(limit=1, owner=OTHER, lease=LONG, known=KNOWN)
        assert again.attempts == 1

    async def test_only_the_owner_releases(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a"))
        assert await journal.release([stored.seq], owner=OTHER) == 0
        assert await claim(journal, OTHER) == []

    # park

    async def test_a_parked_row_is_dead_and_keeps_everything(self, journal: JournalStore) -> None:
        seq = await parked(journal, "a", body=b'{"x": 1}', headers={"k": "v"})
        (dead,) = await journal.dead()
        assert (dead.seq, dead.body, dict(dead.headers), dead.error) == (seq, b'{"x": 1}', {"k": "v"}, "why")
        assert (dead.status, dead.attempts) == (Status.PARKED, 1)
        assert await claim(journal, OTHER) == []

    async def test_a_lane_goes_on_behind_a_parked_row(self, journal: JournalStore) -> None:
        first, _ = await append(journal, row("a", lane="l"), row("b", lane="l"), lease=OVER)
        await claim(journal, OTHER)
        await journal.park(first.seq, owner=OTHER, error="x")
        assert await claim(journal, OTHER) == ["b"]

    async def test_a_lane_waits_behind_a_held_row(self, journal: JournalStore) -> None:
        await parked(journal, "a", lane="l", hold=True)
        (behind,) = await append(journal, row("b", lane="l"))
        assert behind.lease_owner is None
        assert await claim(journal) == []

    async def test_only_the_owner_parks(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a"))
        assert not await journal.park(stored.seq, owner=OTHER, error="x")
        assert await journal.dead() == []

    # renew

    async def test_a_renewed_lease_is_not_claimed(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a"), lease=OVER)
        assert [*await journal.renew([stored.seq], owner=ME, lease=LONG)] == [stored.seq]
        assert await claim(journal, OTHER) == []

    async def test_renewing_tells_what_was_lost(self, journal: JournalStore) -> None:
        lost, kept = await append(journal, row("a"), row("b"), lease=OVER)
        await claim(journal, OTHER, limit=1)
        assert [*await journal.renew([lost.seq, kept.seq], owner=ME, lease=LONG)] == [kept.seq]

    # the inbox

    async def test_what_was_not_handled_was_not_seen(self, journal: JournalStore) -> None:
        assert await journal.seen("a", "Bus.first") is None
        await append(journal, row("a"))
        assert await journal.seen("a", "Bus.first") is None

    # dead letters

    async def test_dead_letters_are_found_by_type_time_and_number(self, journal: JournalStore) -> None:
        first = await parked(journal, "a", type="Went")
        second = await parked(journal, "b", type="Came")
        assert [dead.seq for dead in await journal.dead()] == [first, second]
        assert [dead.seq for dead in await journal.dead(type="Came")] == [second]
        assert [dead.seq for dead in await journal.dead(seq=first)] == [first]
        assert [dead.seq for dead in await journal.dead(limit=1)] == [first]
        assert await journal.dead(since=datetime.now(UTC) + timedelta(hours=1)) == []

    async def test_a_redriven_letter_is_due_with_its_attempts_counted_anew(self, journal: JournalStore) -> None:
        seq = await parked(journal, "a")
        assert await journal.redrive([seq]) == 1
        (again,) = await journal.claim(limit=1, owner=OTHER, lease=LONG, known=KNOWN)
        assert (again.seq, again.attempts) == (seq, 1)
        assert await journal.dead() == []

    async def test_only_dead_letters_are_redriven_and_discarded(self, journal: JournalStore) -> None:
        (stored,) = await append(journal, row("a"))
        assert await journal.redrive([stored.seq, 999_999]) == 0
        assert await journal.discard([stored.seq, 999_999]) == 0
        assert (await journal.redrive([]), await journal.discard([])) == (0, 0)
        assert await journal.complete([stored.seq], owner=ME) == 1

    async def test_a_held_lane_goes_on_after_discard(self, journal: JournalStore) -> None:
        seq = await parked(journal, "a", lane="l", hold=True)
        await append(journal, row("b", lane="l"))
        assert await journal.discard([seq]) == 1
        assert await journal.dead() == []
        assert await claim(journal) == ["b"]

    async def test_a_held_lane_goes_on_with_the_redriven_row(self, journal: JournalStore) -> None:
        seq = await parked(journal, "a", lane="l", hold=True)
        await append(journal, row("b", lane="l"))
        await journal.redrive([seq])
        assert await claim(journal) == ["a"]

    # housekeeping

    async def test_the_counts(self, journal: JournalStore) -> None:
        await append(journal, row("a"), row("b"))
        await parked(journal, "c")
        await parked(journal, "d", lane="l", hold=True)
        stats = await journal.stats()
        assert (stats.pending, stats.parked, stats.held) == (2, 1, 1)
        assert stats.oldest is not None
        assert stats.oldest >= 0.0

    async def test_an_empty_journal_has_no_oldest_row(self, journal: JournalStore) -> None:
        stats = await journal.stats()
        assert (stats.pending, stats.parked, stats.held, stats.done, stats.oldest) == (0, 0, 0, 0, None)

    async def test_a_delayed_row_is_not_old(self, journal: JournalStore) -> None:
        await append(journal, row("a", due=datetime.now(UTC) + timedelta(hours=1)))
        stats = await journal.stats()
        assert (stats.pending, stats.oldest) == (1, None)

    async def test_purging_removes_what_is_done_and_nothing_else(self, journal: JournalStore) -> None:
        done, _ = await append(journal, row("a"), row("b"))
        await journal.complete([done.seq], owner=ME)
        await parked(journal, "c")
        assert await journal.purge(older_than=3600.0) == 0
        await journal.purge(older_than=-1.0)
        stats = await journal.stats()
        assert (stats.pending, stats.done, stats.parked) == (1, 0, 1)
