"""Mutations of the Wallbox cloud's client and its rate limits."""

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        name="negative-setting-kept",
        at="wallbox.mapping:_put_setting",
        find="answer.setting_is_unreadable",
        put="False",
        tests=("tests/wallbox/test_unreadable.py",),
    ),
    Mutation(
        name="unreadable-house-limit-lifted",
        at="wallbox.mapping:_put_config",
        find="config.home_sharing is False or config.icp_max_current == 0",
        put="not config.home_sharing or not config.icp_max_current",
        tests=("tests/wallbox/test_unreadable.py",),
    ),
    Mutation(
        name="evidence-is-request-time",
        at="wallbox.transport:WallboxCloudTransport._record_sync",
        find="local_timestamp(synced, Timestamp.of(self._clock), self._account.cloud_now - self._clock.now())",
        put="Timestamp.of(self._clock)",
        tests=("tests/wallbox/test_account.py", "-k", "i3"),
    ),
    Mutation(
        name="reads-too-often",
        at="wallbox.rate_limit",
        find="READ_EVERY = 60.0",
        put="READ_EVERY = 50.0",
        tests=("tests/wallbox/test_rate_limit.py",),
    ),
    Mutation(
        name="budget-stamps-not-restored",
        at="wallbox.rate_limit:RequestBudgets.restore",
        find="budget.take(used_at)",
        put="del used_at",
        tests=("tests/wallbox/test_rate_limit.py",),
    ),
    Mutation(
        name="unclean-stop-forgiven",
        at="wallbox.rate_limit:RequestBudgets.restore",
        find='record.get("clean") is not True',
        put='record.get("clean") is None',
        tests=("tests/wallbox/test_rate_limit.py",),
    ),
    Mutation(
        name="reserve-open-after-429",
        at="wallbox.rate_limit",
        find="RESERVE_CLOSED_AFTER_429 = 24 * 3600.0",
        put="RESERVE_CLOSED_AFTER_429 = 0.0",
        tests=("tests/wallbox/test_throttling.py", "-k", "429"),
    ),
    Mutation(
        name="password-asked-at-once",
        at="wallbox.account:WallboxAccount._sign_in",
        find="""
            if self._refused_at is None:
                self._refused_at = now
            elif now >= self._refused_at + REFUSED_AGAIN_AFTER:
                self._needs_login = True
        """,
        put="""
            if self._refused_at is None:
                self._refused_at = now
            self._needs_login = True
        """,
        tests=("tests/wallbox/test_account_login.py",),
    ),
    Mutation(
        name="probes-run-dry",
        at="wallbox.rate_limit:RequestBudgets.__init__",
        find="PacedWindow(PROBES_PER_HOUR, 3600.0)",
        put="SlidingWindow(PROBES_PER_HOUR, 3600.0)",
        tests=("tests/wallbox/test_outages.py", "-k", "flapping"),
    ),
    Mutation(
        name="slow-counts-as-lost",
        at="wallbox.account:WallboxAccount._record_failure",
        find="self.breaker.slow()",
        put="self.breaker.bad(Failure.OTHER)",
        tests=("tests/wallbox/test_outages.py",),
    ),
    Mutation(
        name="refusal-counts-as-lost",
        at="wallbox.account:WallboxAccount._record_failure",
        find="self.breaker.good()",
        put="self.breaker.bad(Failure.OTHER)",
        tests=("tests/wallbox/test_outages.py", "tests/wallbox/test_commands.py"),
    ),
    Mutation(
        name="lost-renewal-tells-cloud-back",
        at="wallbox.account:WallboxAccount._block_until_renewal",
        find="not self.breaker.usable",
        put="self.breaker.busy",
        tests=("tests/wallbox/test_account_login.py", "-k", "lost_answer"),
    ),
    Mutation(
        name="only-changed-schedules-sent",
        at="wallbox.mapping:schedule_bodies",
        find="""
            [
                _schedule_body(raw, window) | {"created_at": created_at}
                for raw, window in zip(listed.raw, after, strict=True)
            ]
        """,
        put="""
            [
                _schedule_body(raw, window) | {"created_at": created_at}
                for raw, window in zip(listed.raw, after, strict=True)
                if window not in before
            ]
        """,
        tests=("tests/wallbox/test_override_cloud.py", "-k", "survive_an_override"),
    ),
    Mutation(
        name="uid-of-schedules-sent",
        at="wallbox.mapping:_schedule_body",
        find='{key: value for key, value in raw.items() if key != "uid"}',
        put="dict(raw)",
        tests=("tests/wallbox/test_override_cloud.py", "-k", "survive_an_override"),
    ),
    Mutation(
        name="enable-as-an-integer",
        at="wallbox.mapping:_schedule_body",
        find="window.enabled",
        put="int(window.enabled)",
        tests=("tests/wallbox/test_override_cloud.py", "-k", "survive_an_override"),
    ),
    Mutation(
        name="schedules-dated-by-our-clock",
        at="wallbox.account:WallboxAccount.write_schedule.post",
        find="self.cloud_now",
        put="self._clock.now()",
        tests=("tests/wallbox/test_override_cloud.py", "-k", "clock_that_is_off"),
    ),
    Mutation(
        name="schedules-older-than-known",
        at="wallbox.mapping:schedule_bodies",
        find="max(ceil(cloud_now.timestamp()), listed.newest)",
        put="ceil(cloud_now.timestamp())",
        tests=("tests/wallbox/test_override_cloud.py", "-k", "clock_that_is_off"),
    ),
    Mutation(
        name="schedules-in-part-written",
        at="wallbox.mapping:whole_schedule",
        find="not listed.is_whole or len(found) != len(listed.entries)",
        put="not listed.is_whole",
        tests=("tests/wallbox/test_override_cloud.py", "-k", "not_fully_readable"),
    ),
    Mutation(
        name="schedules-read-long-before",
        at="wallbox.account",
        find="BACK_TO_BACK = 10.0",
        put="BACK_TO_BACK = 1000.0",
        tests=("tests/wallbox/test_commands.py", "-k", "write_waits_for_room"),
    ),
)
