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
        name="poller-not-woken-after-command",
        at="wallbox.account:WallboxAccount.execute",
        find="self._poller.wake()",
        put="pass",
        tests=("tests/wallbox/test_account.py", "-k", "after_each_command"),
    ),
    Mutation(
        name="status-from-before-command-delays-next",
        at="wallbox.account:WallboxAccount._next_status_read",
        find="refresh.tried_at < transport.written_at",
        put="False",
        tests=("tests/wallbox/test_account.py", "-k", "after_each_command"),
    ),
    Mutation(
        name="roles-before-awaited-status",
        at="wallbox.account:WallboxAccount._next_slow_read",
        find="not self._awaits_report",
        put="True",
        tests=("tests/wallbox/test_account.py", "-k", "status_after_command"),
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
        name="read-throttle-refuses-commands",
        at="wallbox.account:WallboxAccount._admit_command",
        find="self.breaker.writes_busy_until is not None",
        put="self.breaker.busy_until is not None",
        tests=("tests/wallbox/test_throttling.py",),
    ),
    Mutation(
        name="any-command-takes-a-reserved-slot",
        at="wallbox.rate_limit:RequestBudgets.command_slot",
        find="urgent and reserved <= shared",
        put="reserved <= shared",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "first_two"),
    ),
    Mutation(
        name="reductions-in-order-of-arrival",
        at="wallbox.command_queue:CommandQueue._await_slot",
        find="(-each.relief, each.number)",
        put="each.number",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "amperes"),
    ),
    Mutation(
        name="waits-give-no-way",
        at="wallbox.command_queue:RightOfWay.claim",
        find="self._claims += 1",
        put="pass",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "give_way or cancels"),
    ),
    Mutation(
        name="unclean-stop-takes-the-reserved-slots",
        at="wallbox.rate_limit:RequestBudgets.restore",
        find="self.unclean_stops.free_at(now) > now",
        put="True",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "unclean"),
    ),
    Mutation(
        name="each-unclean-stop-frees-the-reserved-slots",
        at="wallbox.rate_limit:RequestBudgets.restore",
        find="self.unclean_stops.free_at(now) > now",
        put="False",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "unclean"),
    ),
    Mutation(
        name="urgent-refreshes-without-end",
        at="wallbox.account:WallboxAccount._take_login_slot",
        find="budget = self._budgets.urgent_logins",
        put="budget = SlidingWindow(1, 0.0)",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "refreshed"),
    ),
    Mutation(
        name="reduction-waits-for-a-renewal",
        at="wallbox.account:WallboxAccount._sign_in_for_command",
        find="not urgent",
        put="True",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "renewal or refreshed"),
    ),
    Mutation(
        name="failed-reduction-of-a-group-waits",
        at="core.load_group.group:LoadGroup._send_due",
        find="state.failures or not state.in_flight",
        put="not state.in_flight",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "group_kept"),
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
        find="self.breaker.good(write=write)",
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
    Mutation(
        name="what-we-wrote-is-a-reading",
        at="wallbox.transport:WallboxCloudTransport._publish_proven",
        find="readings.discard(prop.key)",
        put="pass",
        tests=("tests/wallbox/test_evidence_cloud.py",),
    ),
    Mutation(
        name="report-in-the-second-of-the-write-proves-it",
        at="wallbox.transport:WallboxCloudTransport._record_sync",
        find="synced > write.answered_at",
        put="synced >= write.answered_at",
        tests=("tests/wallbox/test_evidence_cloud.py", "-k", "only_the_cloud_wrote"),
    ),
    Mutation(
        name="written-status-is-a-sign-of-life",
        at="wallbox.transport:WallboxCloudTransport._shows_life",
        find="changed and not written",
        put="changed",
        tests=("tests/wallbox/test_evidence_cloud.py",),
    ),
    Mutation(
        name="charging-time-is-a-sign-of-life",
        at="wallbox.transport:WallboxCloudTransport._shows_life",
        find="((before.charging_power, after.charging_power), (before.added_energy, after.added_energy))",
        put="""
            (
                (before.charging_power, after.charging_power),
                (before.added_energy, after.added_energy),
                (before.charging_time, after.charging_time),
            )
        """,
        tests=("tests/wallbox/test_transport.py", "-k", "sign_of_life"),
    ),
)
