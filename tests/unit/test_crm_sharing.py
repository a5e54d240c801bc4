"""Look-ups beside each other, under a clock that jumps: who shares, who waits for whom, and who waits for nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import httpx
import pytest
from msgspec import structs

from consumers.crm.client import CrmClient
from consumers.crm.endpoint import Endpoint
from consumers.crm.outcomes import Answered, Failed, LookUp, TroubleError
from consumers.crm.protection import FAILURES_MAX, OPEN_S
from consumers.secrets import Secrets
from routing.policy import CrmRate, Policy
from tests.crm_support import NOW_MS, make_ask, make_policy
from tests.simulation.virtual_loop import run_virtual

URL = "http://127.0.0.1:9/?email={email}"
BUSY = TroubleError("http-503", status=503, retriable=True, unsent=True)
Outcome = Answered | Failed


class FakeCrm:
    """Answers in place of ``Endpoint.exchange``: after ``takes_s``, with ``say``; keeps what was asked and when."""

    def __init__(self, say: Callable[[str, int], Any] = lambda _who, _number: {"customerType": "VIP"}) -> None:
        self.say = say
        self.takes_s = 1.0
        self.asked: list[tuple[float, str]] = []
        self.at_once = 0
        self.most_at_once: Counter[str] = Counter()
        self._now: Counter[str] = Counter()

    async def exchange(self, endpoint: Endpoint, request: httpx.Request) -> tuple[int, Any]:
        who = dict(request.url.params).get("email", "")
        self.asked.append((asyncio.get_running_loop().time(), who))
        self._now[endpoint.host] += 1
        self.most_at_once[endpoint.host] = max(self.most_at_once[endpoint.host], self._now[endpoint.host])
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self._now[endpoint.host] -= 1
        said = self.say(who, len(self.asked))
        if isinstance(said, TroubleError):
            raise said
        return 200, said


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> FakeCrm:
    fake = FakeCrm()

    async def exchange(self: Endpoint, request: httpx.Request) -> tuple[int, Any]:
        return await fake.exchange(self, request)

    monkeypatch.setattr(Endpoint, "exchange", exchange)
    return fake


def run(work: Callable[[CrmClient], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        secrets = Secrets(environment={"CRM_TOKEN": "x"})
        async with CrmClient(
            clock=lambda: NOW_MS + round(loop.time() * 1000), secrets=secrets, random_fraction=lambda: 1.0, **options
        ) as client:
            return await work(client)

    return run_virtual(main())


async def all_of(*look_ups: Awaitable[Outcome]) -> list[Outcome]:
    return await asyncio.gather(*look_ups)


def ask(email: str = "ann@example.com", *, deadline_s: float = 60.0, **changes: Any) -> LookUp:
    return make_ask(email=email, deadline_ms=NOW_MS + round(deadline_s * 1000), **changes)


def policy(**changes: Any) -> Policy:
    return make_policy(URL, **{"timeout_ms": 10_000, "deadline_ms": 60_000, "attempts": 3, **changes})


def test_those_who_ask_the_same_at_the_same_time_share_one_request(crm: FakeCrm) -> None:
    async def work(client: CrmClient) -> Any:
        first = asyncio.create_task(client.look_up(ask(conversation="v-1"), policy()))
        await asyncio.sleep(0.4)
        second = await client.look_up(ask(conversation="v-2"), policy())
        return [await first, second], client.counts

    (first, second), counts = run(work)
    assert len(crm.asked) == 1
    assert second == structs.replace(first, latency_ms=600)
    assert second.age_ms is None
    assert (counts["requests"], counts["shared"]) == (1, 1)


def test_different_contacts_policies_and_requests_share_nothing(crm: FakeCrm) -> None:
    by_conversation = make_policy("http://127.0.0.1:9/{conversation_id}")
    run(
        lambda client: all_of(
            client.look_up(ask(), policy()),
            client.look_up(ask("bob@example.com"), policy()),
            client.look_up(ask(), policy(attempts=2)),
            client.look_up(ask(conversation="v-1"), by_conversation),
            client.look_up(ask(conversation="v-2"), by_conversation),
        )
    )
    assert len(crm.asked) == 5


def test_a_failure_is_shared_too(crm: FakeCrm) -> None:
    crm.say = lambda _who, _number: TroubleError("http-401", status=401)
    outcomes = run(lambda client: all_of(*(client.look_up(ask(), policy()) for _ in range(3))))
    assert outcomes == [Failed(reason="http-401", status=401, attempts=1)] * 3
    assert len(crm.asked) == 1


@pytest.mark.parametrize("takes_s", [3.0, 8.0])
def test_who_has_more_time_goes_on_where_the_first_ones_time_is_up(crm: FakeCrm, takes_s: float) -> None:
    """Whether the first one's deadline passes while it asks, or leaves no time for another attempt."""
    crm.takes_s = takes_s
    crm.say = lambda _who, number: BUSY if number == 1 else {"customerType": "VIP"}
    first, second, third = run(
        lambda client: all_of(
            client.look_up(ask(deadline_s=3.05), policy()),
            client.look_up(ask(), policy()),
            client.look_up(ask(), policy()),
        )
    )
    assert isinstance(first, Failed)
    assert isinstance(second, Answered)
    assert isinstance(third, Answered)
    assert len(crm.asked) == 2


def test_a_cancelled_look_up_takes_nobody_along(crm: FakeCrm) -> None:
    async def work(client: CrmClient) -> Any:
        first = asyncio.create_task(client.look_up(ask(), policy()))
        second = asyncio.create_task(client.look_up(ask(), policy()))
        await asyncio.sleep(0.5)
        first.cancel()
        return await second

    assert isinstance(run(work), Answered)
    assert len(crm.asked) == 2


def test_an_answer_in_the_cache_is_given_at_once_with_its_age(crm: FakeCrm) -> None:
    async def work(client: CrmClient) -> Any:
        cached = policy(cache_ms=60_000)
        first = await client.look_up(ask(deadline_s=600), cached)
        await asyncio.sleep(20)
        second = await client.look_up(ask(deadline_s=600), cached)
        at_once = client.cached(ask(deadline_s=600), cached)
        await asyncio.sleep(40)
        third = await client.look_up(ask(deadline_s=600), cached)
        return first, second, at_once, third

    first, second, at_once, third = run(work)
    assert (first.age_ms, first.attempts) == (None, 1)
    assert second == at_once == structs.replace(first, attempts=0, latency_ms=0, age_ms=20_000)
    assert (third.age_ms, third.attempts) == (None, 1)
    assert len(crm.asked) == 2


def test_nothing_is_kept_without_a_word_of_the_policy_and_failures_never_are(crm: FakeCrm) -> None:
    async def twice(client: CrmClient, one: Policy) -> None:
        await client.look_up(ask(), one)
        await client.look_up(ask(), one)

    run(lambda client: twice(client, policy()))
    crm.say = lambda _who, _number: TroubleError("http-401", status=401)
    run(lambda client: twice(client, policy(cache_ms=60_000)))
    assert len(crm.asked) == 4


@pytest.mark.parametrize(
    ("method", "repeat", "trouble", "requests"),
    [
        ("GET", "safe", TroubleError("connection", retriable=True), 3),
        ("PUT", "safe", TroubleError("http-500", status=500, retriable=True), 3),
        ("POST", "safe", TroubleError("http-500", status=500, retriable=True), 1),
        ("POST", "safe", TroubleError("connection", retriable=True), 1),
        ("PATCH", "safe", TroubleError("time-out", retriable=True), 1),
        ("POST", "safe", TroubleError("refused", retriable=True, unsent=True), 3),
        ("POST", "safe", BUSY, 3),
        ("POST", "always", TroubleError("http-500", status=500, retriable=True), 3),
        ("GET", "safe", TroubleError("http-401", status=401), 1),
    ],
)
def test_what_may_have_been_worked_on_is_repeated_only_where_that_does_no_harm(
    crm: FakeCrm, method: str, repeat: str, trouble: TroubleError, requests: int
) -> None:
    crm.say = lambda _who, _number: trouble
    failed = run(lambda client: client.look_up(ask(), policy(method=method, repeat=repeat)))
    assert (failed.reason, failed.attempts, len(crm.asked)) == (trouble.reason, requests, requests)


def test_a_retry_after_holds_back_everybody_who_asks_that_host(crm: FakeCrm) -> None:
    crm.say = lambda who, _number: (
        TroubleError("http-429", status=429, retriable=True, unsent=True, retry_after_s=5) if who[0] == "a" else {}
    )

    async def work(client: CrmClient) -> None:
        await client.look_up(ask(), policy(attempts=1))
        await client.look_up(ask("bob@example.com"), policy(attempts=1))

    run(work)
    assert [at_s for at_s, _ in crm.asked] == pytest.approx([0, 6])


def test_a_host_that_hangs_opens_its_breaker_and_the_next_wait_in_order(crm: FakeCrm) -> None:
    crm.takes_s = 100.0

    async def work(client: CrmClient) -> Any:
        one = policy(attempts=1, timeout_ms=1_000)
        asks = [ask(f"a{number}@example.com") for number in range(FAILURES_MAX + 1)]
        failed = await all_of(*(client.look_up(each, one) for each in asks))
        assert {outcome.reason for outcome in failed if isinstance(outcome, Failed)} == {"time-out"}
        assert client.breakers() == {"127.0.0.1:9": "open"}
        crm.takes_s = 0.1
        late = await all_of(
            client.look_up(ask("b1@example.com"), one),
            client.look_up(ask("b2@example.com"), one),
            client.look_up(ask("b3@example.com", deadline_s=3.0), one),
        )
        return late, client

    (first, second, third), client = run(work)
    assert isinstance(first, Answered)
    assert isinstance(second, Answered)
    assert third == Failed(reason="deadline", attempts=0)
    assert [who for _, who in crm.asked[FAILURES_MAX + 1 :]] == ["b1@example.com", "b2@example.com"]
    assert crm.asked[FAILURES_MAX + 1][0] == pytest.approx(1 + OPEN_S)
    assert client.counts["breaker-open"] == client.counts["breaker-closed"] == 1


def test_a_hanging_crm_of_one_workspace_leaves_the_others_their_places(crm: FakeCrm) -> None:
    """200 look-ups hang at one workspace's CRM, which may hold half of the connections; another's go through."""
    crm.takes_s = 30.0
    slow, quick = policy(timeout_ms=40_000), make_policy("http://127.0.0.2:9/?email={email}")

    async def work(client: CrmClient) -> Any:
        loop = asyncio.get_running_loop()
        hanging = [
            asyncio.create_task(client.look_up(ask(f"h{number}@example.com", workspace="slow"), slow))
            for number in range(200)
        ]
        await asyncio.sleep(1)
        crm.takes_s = 0.01
        began_s = loop.time()
        answers = await all_of(*(client.look_up(ask(f"q{n}@example.com", workspace="quick"), quick) for n in range(50)))
        for task in hanging:
            task.cancel()
        return answers, loop.time() - began_s

    answers, took_s = run(work, connections_max=20)
    assert all(isinstance(answer, Answered) for answer in answers)
    assert took_s == pytest.approx(0.05)
    assert crm.most_at_once == {"127.0.0.1:9": 10, "127.0.0.2:9": 10}


def test_without_a_bound_by_workspace_the_others_wait(crm: FakeCrm) -> None:
    """Negative control of the test above."""
    crm.takes_s = 30.0
    slow, quick = policy(timeout_ms=40_000), make_policy("http://127.0.0.2:9/?email={email}")

    async def work(client: CrmClient) -> Any:
        hanging = [
            asyncio.create_task(client.look_up(ask(f"h{number}@example.com", workspace="slow"), slow))
            for number in range(20)
        ]
        await asyncio.sleep(1)
        answered = await client.look_up(ask(workspace="quick"), quick)
        for task in hanging:
            task.cancel()
        return answered

    assert run(work, connections_max=20, workspace_max=100) == Failed(reason="deadline", attempts=0)


def test_a_host_is_asked_at_most_as_often_as_the_policy_says(crm: FakeCrm) -> None:
    crm.takes_s = 0.0
    limited = policy(rate=CrmRate(per_second=10, concurrency=100))
    run(lambda client: all_of(*(client.look_up(ask(f"a{n}@example.com"), limited) for n in range(35))))
    starts = [at_s for at_s, _ in crm.asked]
    assert max(sum(1 for one in starts if begin <= one < begin + 0.999) for begin in starts) == 10
    assert starts[-1] < 4


def test_waits_between_attempts_are_drawn_and_fit_into_the_deadline(crm: FakeCrm) -> None:
    crm.takes_s = 0.0
    crm.say = lambda _who, _number: BUSY
    failed = run(lambda client: client.look_up(ask(deadline_s=1.0), policy(attempts=10)))
    assert failed == Failed(reason="http-503", status=503, attempts=4)
    assert [at_s for at_s, _ in crm.asked] == pytest.approx([0, 0.1, 0.3, 0.7])
