"""Tokens and sign-ins of one account: refusals, repetitions, and the request for another password."""

from collections.abc import AsyncIterator
from random import Random

import pytest

from custom_components.chargekeeper.core.breaker import BreakerState
from custom_components.chargekeeper.core.errors import LoginRejected, NoConnection, TransportBusy, TransportDown
from custom_components.chargekeeper.core.transport import Restart, SetCurrent
from tests.simulators.wallbox_cloud import Fault

from .rig import (
    EMAIL,
    FREE,
    GROUPS,
    HOUR,
    MINUTE,
    PASSWORD,
    REFRESH,
    SIGN_IN,
    STATUS,
    Rig,
    busiest,
    gaps,
    idle_world,
    overdrawn,
    rigged,
)

OTHER, OTHER_PASSWORD = "other@example.org", "different"


@pytest.fixture
async def rig(socket_enabled: None) -> AsyncIterator[Rig]:
    async with rigged() as rig:
        yield rig


def _request_paths(rig: Rig, since: float) -> list[str]:
    return [request.path for request in rig.cloud.requests if request.at >= since]


async def _freshly_renewed(rig: Rig) -> None:
    """Advance the clock until the tokens are new and the groups were polled just now."""
    await rig.settle_in()
    await rig.until_get(REFRESH, within=20 * MINUTE)
    await rig.until_get(GROUPS)


# Renewal before the expiry


async def test_tokens_renewed_before_expiry_leave_no_request_refused(rig: Rig) -> None:
    rig.account.start()
    await rig.clock.advance(3 * HOUR)
    assert len(rig.gets(SIGN_IN)) == 1
    assert 10 <= len(rig.gets(REFRESH)) <= 14
    assert {request.status for request in rig.cloud.requests} == {200}


async def test_token_renewal_uses_a_read_slot_and_keeps_group_polls_on_time(socket_enabled: None) -> None:
    async with rigged(idle_world(60)) as rig:
        rig.account.start()
        await rig.clock.advance(30 * MINUTE)
        since = rig.clock.monotonic()
        await rig.clock.advance(5 * HOUR)
        assert busiest(rig.gets(since=since), HOUR) == 60
        assert min(gaps(rig.gets(since=since))) >= MINUTE  # the renewal itself has a slot of its own
        assert set(gaps(rig.gets(GROUPS, since))) == {120}


async def test_refused_refresh_and_sign_in_each_use_a_read_slot(socket_enabled: None) -> None:
    async with rigged(idle_world(60)) as rig:
        await _freshly_renewed(rig)
        rig.cloud.expire_access()
        rig.cloud.revoke_refresh()
        since = rig.clock.monotonic() + 1
        await rig.clock.advance(20 * MINUTE)
        answered = [request for request in rig.gets(since=since) if request.path not in {REFRESH, SIGN_IN}]
        answered = [request for request in answered if request.status == 200]
        assert len(rig.gets("/users/", since)) == 3
        assert len(answered) == 20 - 3


@pytest.mark.parametrize("lifetime", [30.0, 200.0, 400.0])
async def test_i6_short_lived_tokens_cause_no_request_storm(rig: Rig, lifetime: float) -> None:
    rig.cloud.access_lifetime = lifetime
    await rig.settle_in()
    await rig.clock.advance(HOUR)
    assert busiest(rig.gets("/users/"), MINUTE) == 1
    assert min(gaps(rig.data_gets())) >= MINUTE
    assert {request.status for request in rig.cloud.requests} == {200}
    assert overdrawn(rig, probes=False) == []


async def test_tokens_without_expiry_time_used_until_refused(rig: Rig) -> None:
    await rig.settle_in()
    assert rig.account._client.tokens is not None
    tokens = rig.account._client.tokens
    object.__setattr__(tokens, "access_expires_at", None)
    since = rig.clock.monotonic()
    await rig.clock.advance(30 * MINUTE)
    (refused,) = [request for request in rig.data_gets(since) if request.status == 401]
    assert rig.gets("/users/", since)[0].at == refused.at
    assert rig.account.breaker.state is BreakerState.CLOSED


# Refused before their expiry


async def test_401_on_data_causes_one_refresh_and_one_repetition(rig: Rig) -> None:
    await _freshly_renewed(rig)
    rig.cloud.expire_access()
    since = rig.clock.monotonic() + 1
    await rig.clock.advance(2 * MINUTE)
    assert _request_paths(rig, since)[:3] == [GROUPS, REFRESH, GROUPS]
    assert [request.status for request in rig.gets(GROUPS, since)][:2] == [401, 200]
    assert len(rig.gets("/users/", since)) == 1
    assert rig.outages == []
    assert overdrawn(rig, probes=False) == []


async def test_refused_refresh_followed_at_once_by_one_sign_in(rig: Rig) -> None:
    await _freshly_renewed(rig)
    rig.cloud.expire_access()
    rig.cloud.revoke_refresh()
    since = rig.clock.monotonic() + 1
    await rig.clock.advance(2 * MINUTE)
    assert _request_paths(rig, since)[:4] == [GROUPS, REFRESH, SIGN_IN, GROUPS]
    assert len({request.at for request in rig.gets(since=since)[:4]}) == 1
    assert rig.outages == []
    assert not any(snapshot.needs_login for snapshot in rig.snapshots)
    assert overdrawn(rig, probes=False) == []


async def test_401_with_new_tokens_makes_account_busy_without_password_request(
    rig: Rig,
) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.UNAUTHORIZED)
    since = rig.clock.monotonic()
    await rig.clock.advance(3 * HOUR)
    assert len(rig.data_gets(since)) <= 40
    assert busiest(rig.data_gets(since), MINUTE) <= 2
    assert len(rig.gets("/users/", since)) <= 40
    assert len(rig.gets(SIGN_IN, since)) > 5  # a fresh sign-in is tried, not only renewals
    assert rig.outages == []  # the cloud answers
    assert not any(snapshot.needs_login for snapshot in rig.snapshots)
    assert not any(transport.removed_from_account for transport in rig.account.transports.values())
    with pytest.raises(TransportBusy):
        await rig.transport(FREE).execute(SetCurrent(10), patience=5)
    await rig.cloud.set_fault(Fault.NONE)
    await rig.clock.advance(16 * MINUTE)
    assert rig.account.breaker.state is BreakerState.CLOSED
    assert rig.gets(GROUPS)[-1].status == 200
    assert overdrawn(rig, probes=False) == []


async def test_token_refused_right_after_renewal_waits_for_next_renewal(rig: Rig) -> None:
    await rig.settle_in()
    await rig.until_get(REFRESH, within=20 * MINUTE)
    await rig.until_get(STATUS, within=30 * MINUTE)  # a read in a slot of its own
    await rig.until_get(REFRESH, within=20 * MINUTE)
    renewed_at = rig.clock.monotonic()
    rig.cloud.expire_access()
    with pytest.raises(TransportBusy, match="signing_in") as refused:
        await rig.transport(FREE).execute(SetCurrent(10), patience=5)
    assert 0 < refused.value.retry_after <= 60
    assert rig.account.diagnostics()["busy_for"] == 60
    assert rig.data_gets(renewed_at + 1) == []
    await rig.clock.advance(2 * MINUTE)
    assert rig.account.breaker.state is BreakerState.CLOSED
    assert rig.account.diagnostics()["busy_for"] is None
    assert rig.gets(REFRESH)[-1].at >= renewed_at + 60
    assert overdrawn(rig, probes=False) == []


async def test_i6_tokens_refused_by_recovered_cloud_cause_no_probe_storm(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.REFUSE)
    await rig.clock.advance(40 * MINUTE)  # the tokens ended meanwhile, so the first probe renews them
    await rig.cloud.set_fault(Fault.UNAUTHORIZED)
    since = rig.clock.monotonic()
    await rig.clock.advance(20 * MINUTE)
    assert rig.gets(GROUPS, since)
    assert len(rig.gets(since=since)) < 20
    assert busiest(rig.data_gets(since), MINUTE) <= 2
    assert rig.outages == ["cloud_lost", "cloud_back"]  # 401 proves that the cloud is there


async def test_401_for_token_replaced_in_lost_answer_is_no_cloud_recovery(rig: Rig) -> None:
    """Lose the answer to a refresh in an outage, so that the cloud refuses the old token afterwards."""
    await rig.settle_in()
    await rig.clock.advance_until(lambda: rig.account._token_seconds_left() <= 160, within=HOUR)
    await rig.cloud.set_fault(Fault.HALF)
    since = rig.clock.monotonic()
    await rig.until_get(REFRESH)
    rig.cloud.expire_access()
    await rig.clock.advance(10 * MINUTE)
    assert 401 in [request.status for request in rig.data_gets(since)]
    assert rig.outages == ["cloud_lost"]
    await rig.cloud.set_fault(Fault.NONE)
    await rig.clock.advance(150)
    assert rig.outages == ["cloud_lost", "cloud_back"]
    assert overdrawn(rig, probes=True) == []


async def test_refresh_answered_by_server_error_is_an_outage_and_no_sign_in(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.ERROR_500, path_prefix="/users/")
    since = rig.clock.monotonic()
    await rig.clock.advance(HOUR)
    assert rig.gets(SIGN_IN, since) == []
    assert rig.outages == ["cloud_lost"]
    assert busiest(rig.gets(REFRESH, since), MINUTE) == 1
    assert len(rig.gets(REFRESH, since)) > 20
    await rig.cloud.set_fault(Fault.NONE)
    await rig.clock.advance(150)
    assert rig.outages == ["cloud_lost", "cloud_back"]


async def test_i6_unreachable_sign_in_after_refused_refresh_refunds_no_slot(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _freshly_renewed(rig)
    rig.cloud.expire_access()
    rig.cloud.revoke_refresh()
    tried: list[float] = []

    async def sign_in(email: str, password: str) -> None:
        tried.append(rig.clock.monotonic())
        raise NoConnection("unreachable")

    with monkeypatch.context() as patch:
        patch.setattr(rig.account._client, "sign_in", sign_in)
        await rig.clock.advance_until(lambda: tried, within=200)
    refreshed_at = rig.gets(REFRESH)[-1].at
    assert tried == [refreshed_at]
    await rig.clock.advance(90)
    assert rig.gets(SIGN_IN)[-1].at >= refreshed_at + 60
    assert rig.account.breaker.closed
    assert overdrawn(rig, probes=True) == []


async def test_429_on_token_renewal_delays_next_request_by_retry_after(rig: Rig) -> None:
    await _freshly_renewed(rig)
    rig.cloud.expire_access()
    await rig.cloud.set_fault(Fault.TOO_MANY, path_prefix="/users/", retry_after=500, next_requests=1)
    with pytest.raises(TransportBusy, match="throttled") as refused:
        await rig.transport(FREE).execute(SetCurrent(10), patience=5)
    assert refused.value.retry_after == 500
    begun = rig.clock.monotonic()
    await rig.clock.advance(10 * MINUTE)
    assert rig.gets(since=begun + 0.1)[0].at >= begun + 500


async def test_sign_in_without_connection_uses_no_slot(rig: Rig) -> None:
    await rig.cloud.set_fault(Fault.REFUSE)
    rig.account.start()
    await rig.clock.advance(5)
    await rig.cloud.set_fault(Fault.NONE)
    await rig.clock.advance(10)  # the second confirmation, less than a minute after the first try
    assert [request.path for request in rig.gets()] == [SIGN_IN, GROUPS]


# Refused credentials


async def test_i7_password_requested_only_after_second_refused_sign_in(rig: Rig) -> None:
    await rig.settle_in()
    rig.owner.password = "changed"
    rig.cloud.expire_access()
    rig.cloud.revoke_refresh()
    await rig.until_get(SIGN_IN)
    first = rig.gets(SIGN_IN)[-1]
    assert first.status == 403
    await rig.clock.advance(9 * MINUTE)
    assert not rig.needs_login()
    assert len([request for request in rig.gets(since=first.at) if request.path != GROUPS]) == 2  # refresh and sign-in
    await rig.clock.advance(2 * MINUTE)
    second = rig.gets(SIGN_IN)[-1]
    assert second.at - first.at >= 600
    assert rig.needs_login()
    assert rig.snapshots[-1].needs_login
    await rig.clock.advance(5 * HOUR)
    # The account tries once an hour, because the refusals may be an error of the cloud.
    assert 4 <= len(rig.gets(SIGN_IN, second.at + 1)) <= 5
    assert rig.data_gets(second.at) == []
    with pytest.raises(LoginRejected):
        await rig.transport(FREE).execute(SetCurrent(10), patience=5)
    assert rig.outages == []


async def test_i7_single_refused_sign_in_before_success_requests_no_password(rig: Rig) -> None:
    await rig.settle_in()
    for _ in range(2):
        rig.owner.password = "changed"
        rig.cloud.expire_access()
        rig.cloud.revoke_refresh()
        await rig.until_get(SIGN_IN)
        with pytest.raises(TransportBusy, match="signing_in"):
            await rig.transport(FREE).execute(SetCurrent(10), patience=5)
        rig.owner.password = PASSWORD
        await rig.clock.advance(20 * MINUTE)
        assert rig.gets(GROUPS)[-1].status == 200
    assert not any(snapshot.needs_login for snapshot in rig.snapshots)


async def test_wrong_initial_password_retried_after_10_minutes(rig: Rig) -> None:
    rig.account = rig.new_account(password="wrong")
    rig.account.start()
    await rig.clock.advance(9 * MINUTE)
    assert len(rig.gets()) == 1
    assert not rig.needs_login()
    await rig.clock.advance(2 * MINUTE)
    assert rig.needs_login()
    assert len(rig.gets()) == 2
    assert rig.cloud_seen() is None


OUTAGES = (Fault.REFUSE, Fault.HANG, Fault.SLOW, Fault.ERROR_500, Fault.TOO_MANY, Fault.UNAUTHORIZED, Fault.FORBIDDEN)
NONSENSE = (Fault.GARBAGE, Fault.HALF, Fault.HTML, Fault.NULLS, Fault.RESET)


@pytest.mark.parametrize("fault", [*OUTAGES, *NONSENSE])
async def test_i7_outage_requests_no_password(rig: Rig, fault: Fault) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(fault)
    await rig.clock.advance(3 * HOUR)
    assert not any(snapshot.needs_login for snapshot in rig.snapshots)
    await rig.cloud.set_fault(Fault.NONE)
    await rig.clock.advance(20 * MINUTE)
    assert rig.cloud_seen() is True
    assert rig.account.breaker.closed
    assert overdrawn(rig, probes=True) == []


async def test_i7_flapping_cloud_requests_no_password_and_exceeds_no_budget(rig: Rig) -> None:
    random = Random(7)
    await rig.settle_in()
    for _ in range(150):
        await rig.cloud.set_fault(random.choice((*OUTAGES, *NONSENSE)))
        await rig.clock.advance(random.uniform(5, 60))
        await rig.cloud.set_fault(Fault.NONE)
        await rig.clock.advance(random.uniform(5, 60))
    assert not any(snapshot.needs_login for snapshot in rig.snapshots)
    assert overdrawn(rig, probes=True) == []
    await rig.clock.advance(20 * MINUTE)
    assert rig.account.breaker.closed


# New credentials


async def test_new_credentials_used_at_once(rig: Rig) -> None:
    await rig.settle_in()
    rig.owner.password = "changed"
    rig.cloud.expire_access()
    rig.cloud.revoke_refresh()
    await rig.clock.advance(15 * MINUTE)
    assert rig.needs_login()
    rig.account.set_credentials(EMAIL, "changed")
    assert not rig.needs_login()
    await rig.clock.advance(1)
    assert rig.gets(GROUPS)[-1].at >= rig.clock.monotonic() - 1
    assert rig.gets(GROUPS)[-1].status == 200


async def test_same_credentials_again_keep_tokens(rig: Rig) -> None:
    await rig.settle_in()
    tokens = rig.account._client.tokens
    rig.account.set_credentials(EMAIL, PASSWORD)
    assert rig.account._client.tokens is tokens


async def test_verified_credentials_end_the_wait_after_refused_sign_ins(rig: Rig) -> None:
    await rig.settle_in()
    rig.owner.password = "changed"
    rig.cloud.expire_access()
    rig.cloud.revoke_refresh()
    await rig.clock.advance(15 * MINUTE)
    assert rig.needs_login()
    with pytest.raises(LoginRejected):
        await rig.account.verify_credentials(EMAIL, "wrong again")
    assert rig.needs_login()
    with pytest.raises(TransportBusy, match="signing_in"):
        await rig.account.verify_credentials(EMAIL, "changed")
    await rig.clock.advance(MINUTE)
    assert await rig.account.verify_credentials(EMAIL, "changed") == rig.owner.uuid
    assert not rig.needs_login()
    rig.account.set_credentials(EMAIL, "changed")
    verified_at = rig.clock.monotonic()
    await rig.clock.advance(0)
    assert [request.at for request in rig.gets(GROUPS, verified_at)] == [verified_at]
    assert rig.account._email == EMAIL
    assert overdrawn(rig, probes=False) == []


async def test_same_password_verified_again_ends_the_wait(rig: Rig) -> None:
    """Enter the same password again after refusals that were an error of the cloud."""
    await rig.settle_in()
    rig.owner.password = "broken for a while"
    rig.cloud.expire_access()
    rig.cloud.revoke_refresh()
    await rig.clock.advance(15 * MINUTE)
    assert rig.needs_login()
    rig.owner.password = PASSWORD
    assert await rig.account.verify_credentials(EMAIL, PASSWORD) == rig.owner.uuid
    rig.account.set_credentials(EMAIL, PASSWORD)
    assert not rig.needs_login()
    await rig.clock.advance(0)
    assert rig.gets(GROUPS)[-1].status == 200


async def test_verifying_credentials_of_another_account_changes_nothing(rig: Rig) -> None:
    other = rig.cloud.add_account(OTHER, OTHER_PASSWORD, serials=())
    await rig.settle_in()
    tokens, since = rig.account._client.tokens, rig.clock.monotonic()
    assert await rig.account.verify_credentials(OTHER, OTHER_PASSWORD) == other.uuid
    assert rig.account.user_id == rig.owner.uuid
    assert rig.account._client.tokens is tokens
    await rig.clock.advance(30 * MINUTE)
    assert len(rig.gets(REFRESH, since)) >= 2
    assert [who.serial for who in rig.account.snapshot.chargers] == ["700101", "700102", "700103"]
    await rig.account.stop()
    rig.transport(FREE).details_refresh.expire()
    rig.account.start()
    await rig.clock.advance(5 * MINUTE)
    assert [request.status for request in rig.gets(f"/v2/charger/{FREE}")][-1] == 200
    # The role is still that of this account, and not too low.
    assert rig.transport(FREE).refusal_reason(Restart()) == "refused"


async def test_credential_check_fails_in_outage_and_without_connection_uses_no_slot(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.REFUSE)
    for _ in range(3):
        with pytest.raises(TransportDown, match="unreachable"):
            await rig.account.verify_credentials(EMAIL, PASSWORD)
    await rig.cloud.set_fault(Fault.NONE)
    assert await rig.account.verify_credentials(EMAIL, PASSWORD) == rig.owner.uuid
    await rig.cloud.set_fault(Fault.ERROR_500)
    await rig.clock.advance(MINUTE)
    with pytest.raises(TransportDown, match="server_error"):
        await rig.account.verify_credentials(EMAIL, PASSWORD)
    assert not any(snapshot.needs_login for snapshot in rig.snapshots)


async def test_config_flow_may_try_another_password_a_minute_later(rig: Rig) -> None:
    rig.account = rig.new_account(password="wrong")
    for password in ("wrong", "wrong too"):
        rig.account.set_credentials(EMAIL, password)
        for _ in range(2):
            with pytest.raises(LoginRejected):
                await rig.account.list_chargers()
            await rig.clock.advance(MINUTE)
        assert not rig.needs_login()
    with pytest.raises(LoginRejected):
        await rig.account.list_chargers()
    rig.account.set_credentials(EMAIL, PASSWORD)
    with pytest.raises(TransportBusy, match="signing_in"):
        await rig.account.list_chargers()
    await rig.clock.advance(MINUTE)
    assert len(await rig.account.list_chargers()) == 3


async def test_command_whose_sign_in_fails_reported_as_not_sent(rig: Rig) -> None:
    await rig.settle_in()
    await rig.account.stop()
    await rig.clock.advance(HOUR)  # the tokens ended
    await rig.cloud.set_fault(Fault.HANG, path_prefix="/users/")
    (lost,) = await rig.finish(rig.begin(rig.transport(FREE).execute(Restart(), patience=5)))
    assert isinstance(lost, TransportDown)
    assert lost.surely_not_sent
    assert rig.writes() == []
    assert rig.charger(FREE).restarts == 0
