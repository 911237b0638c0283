"""Mutations of the rules that hold for every charger."""

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        name="breaker-opens-at-once",
        at="core.breaker:Breaker.bad",
        find="self._confirmations[1:]",
        put="()",
        tests=("tests/core/test_breaker.py",),
    ),
    Mutation(
        name="breaker-closes-too-soon",
        at="core.breaker",
        find="GOOD_TO_CLOSE = 3",
        put="GOOD_TO_CLOSE = 1",
        tests=("tests/core/test_breaker.py",),
    ),
    Mutation(
        name="write-throttle-stops-reads",
        at="core.breaker:Breaker.throttled",
        find="self._writes if write else self._reads",
        put="self._reads",
        tests=("tests/core/test_breaker.py",),
    ),
    Mutation(
        name="good-read-ends-write-throttle",
        at="core.breaker:Breaker.good",
        find="throttle.until = None",
        put="self._reads.until = self._writes.until = None",
        tests=("tests/core/test_breaker.py",),
    ),
    Mutation(
        name="reduction-queues-for-the-lock",
        at="core.charger.lock:ChargerLock.acquire",
        find="self._reductions if urgent else self._others",
        put="self._others",
        tests=("tests/core/test_reduction_lane.py",),
    ),
    Mutation(
        name="unknown-current-is-no-relief",
        at="core.charger.reduction:relief",
        find="present or inf",
        put="present or 0.0",
        tests=("tests/core/test_reduction_lane.py",),
    ),
    Mutation(
        name="queued-raise-survives-a-lower-current",
        at="core.charger.commands:Commands._carry_out",
        find="self._queue.setdefault(capability, queued)",
        put="self._queue[capability] = queued",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "cancels"),
    ),
    Mutation(
        name="end-of-override-waits-for-the-schedule",
        at="core.charger.override:OverrideController._take_step",
        find="decision.step is Step.FINISH and self._must_stop(intent)",
        put="False",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "override_ended"),
    ),
    Mutation(
        name="stopped-charger-stays-paused",
        at="core.charger.override:OverrideController._must_hand_back",
        find="return intent.stopped",
        put="return False",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "override_ended"),
    ),
    Mutation(
        name="handed-back-charger-counts-as-paused",
        at="core.charger.override:OverrideController.left_paused",
        find="intent.stopped and not handed_back",
        put="intent.stopped",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "counts_as_paused"),
    ),
    Mutation(
        name="ignored-hand-back-ends-the-pause",
        at="core.charger.override:OverrideController.left_paused",
        find="intent.sent and intent.applications > 0",
        put="intent.applications > 0",
        tests=("tests/core/test_override.py", "-k", "ignores_the_hand_back"),
    ),
    Mutation(
        name="pause-without-answer-not-told",
        at="core.charger.override:OverrideController.left_paused",
        find="intent.stopped and not handed_back",
        put="False",
        tests=("tests/wallbox/test_reduction_lane.py", "-k", "counts_as_paused"),
    ),
    Mutation(
        name="full-disk-keeps-the-draw",
        at="core.charger.context:Context.save_or_keep",
        find="self.intents.keep(override=override, pause=pause, lowering=lowering)",
        put="raise",
        tests=("tests/core/test_reduction_lane.py", "-k", "disk"),
    ),
    Mutation(
        name="slow-disk-keeps-the-draw",
        at="core.transport",
        find="SAVE_WITHIN = 1.0",
        put="SAVE_WITHIN = 30.0",
        tests=("tests/core/test_reduction_lane.py", "-k", "disk"),
    ),
    Mutation(
        name="older-replaces-newer",
        at="core.charger.readings:ReadingsStore._merge",
        find="new.observed_mono < old.observed_mono",
        put="new.observed_mono > old.observed_mono",
        tests=("tests/core/test_readings.py",),
    ),
    Mutation(
        name="counters-fall",
        at="core.charger.readings:ReadingsStore._merge",
        find="prop.key not in self._may_fall",
        put="prop.key in self._may_fall",
        tests=("tests/core/test_readings.py",),
    ),
    Mutation(
        name="live-values-never-expire",
        at="core.charger.readings:ReadingsStore.visible",
        find="""
            if reading.expires_at <= now:
                continue
        """,
        put="pass",
        tests=("tests/core/test_readings.py",),
    ),
    Mutation(
        name="cached-shown-as-fresh",
        at="core.charger.readings:ReadingsStore.visible",
        find="replace(reading, source=Source.CACHE)",
        put="reading",
        tests=("tests/core/test_readings.py",),
    ),
    Mutation(
        name="override-saved-after-send",
        at="core.charger.override:OverrideController._apply",
        find="await self._intents.write(override=sending)",
        put="pass",
        tests=("tests/core/test_override.py",),
    ),
    Mutation(
        name="originals-not-journaled",
        at="core.charger.override:OverrideController._disable_schedule",
        find="await self._intents.write(override=intent)",
        put="pass",
        tests=("tests/core/test_override.py",),
    ),
    Mutation(
        name="override-applied-without-limit",
        at="core.charger.intents",
        find="APPLICATIONS = 3",
        put="APPLICATIONS = 300",
        tests=("tests/core/test_intents.py", "tests/core/test_override.py"),
    ),
    Mutation(
        name="ceiling-without-load-group",
        at="core.limits:ceiling",
        find="limits.load_group_limit",
        put="None",
        tests=("tests/core/test_limits.py",),
    ),
    Mutation(
        name="unknown-wire-rating-permits",
        at="core.limits:permit",
        find="""
            if limits.wire_rating is None:
                raise UnsafeRequest("wire_rating_unknown")
        """,
        put="pass",
        tests=("tests/core/test_limits.py",),
    ),
    Mutation(
        name="start-above-the-ceiling",
        at="core.charger.commands:Commands._deliver",
        find="self.lower_for_start if setting == START else None",
        put="None",
        tests=("tests/core/test_charger.py",),
    ),
    Mutation(
        name="lowered-on-one-path-only",
        at="core.charger.router:Router.deliver",
        find="""
            if not everywhere:
                break
        """,
        put="break",
        tests=("tests/core/test_charger.py",),
    ),
    Mutation(
        name="local-first",
        at="core.charger.router:Router.ordered.rank",
        find="is_cloud is local_first",
        put="is_cloud is not local_first",
        tests=("tests/core/test_router.py",),
    ),
    Mutation(
        name="guard-takes-any-status",
        at="core.charger.restart",
        find="STATUS_FRESH = 60.0",
        put="STATUS_FRESH = 6000.0",
        tests=("tests/core/test_restart.py", "tests/core/test_restart_service.py"),
    ),
    Mutation(
        name="restart-without-cooling-down",
        at="core.charger.restart",
        find="COOLING_DOWN = 600.0",
        put="COOLING_DOWN = 60.0",
        tests=("tests/core/test_restart.py",),
    ),
    Mutation(
        name="restart-while-updating",
        at="core.charger.restart:_judge",
        find="facts.updating or facts.status is Status.UPDATING",
        put="False",
        tests=("tests/core/test_restart.py",),
    ),
    Mutation(
        name="restart-verified-without-being-away",
        at="core.charger.restart:RestartWatch._judge",
        find="Outcome.UNVERIFIED if reported_later else None",
        put="Outcome.VERIFIED if reported_later else None",
        tests=("tests/core/test_restart.py",),
    ),
    Mutation(
        name="restart-watched-on-every-transport",
        at="core.charger.restart_service:RestartService._observe",
        find="self._record.source not in {None, transport.source}",
        put="False",
        tests=("tests/core/test_restart_evidence.py",),
    ),
    Mutation(
        name="stored-moment-by-the-wall-clock-alone",
        at="core.clock:_passed_in_boot",
        find="present is None or boot_time is None or present.boot != boot_time.boot",
        put="True",
        tests=("tests/core/test_stored_times.py",),
    ),
    Mutation(
        name="boot-of-the-host-ignored",
        at="core.clock:_passed_in_boot",
        find="present.boot != boot_time.boot",
        put="False",
        tests=("tests/core/test_stored_times.py",),
    ),
    Mutation(
        name="cooldown-by-the-wall-clock-after-a-boot",
        at="core.charger.restart_service:RestartService.restore",
        find="latest_monotonic_of(self._clock, record.pressed_at, record.boot_time)",
        put="monotonic_of(self._clock, record.pressed_at, record.boot_time)",
        tests=("tests/core/test_stored_times.py",),
    ),
    Mutation(
        name="divergence-never-noticed",
        at="core.clock",
        find="DIVERGED = 10.0",
        put="DIVERGED = 1e12",
        tests=("tests/core/test_divergence.py",),
    ),
    Mutation(
        name="correction-is-a-divergence",
        at="core.clock",
        find="DIVERGED = 10.0",
        put="DIVERGED = 1.0",
        tests=("tests/core/test_divergence.py",),
    ),
    Mutation(
        name="drift-adds-up",
        at="core.clock:Divergence.at",
        find="self._offset = offset",
        put="pass",
        tests=("tests/core/test_divergence.py",),
    ),
    Mutation(
        name="factor-of-the-clock-ignored",
        at="core.clock:Divergence._measure",
        find="self._clock.monotonic() / self._clock.factor",
        put="self._clock.monotonic()",
        tests=("tests/core/test_divergence.py",),
    ),
    Mutation(
        name="divergence-expires-nothing",
        at="core.charger.charger:Charger._expire_after_divergence",
        find="self._context.readings_store.expire_live()",
        put="pass",
        tests=("tests/core/test_divergence.py",),
    ),
    Mutation(
        name="restart-on-a-status-from-before-a-divergence",
        at="core.charger.restart_service:RestartService._facts",
        find="diverged_at = self._clock.divergence.at",
        put="diverged_at = 0.0",
        tests=("tests/core/test_divergence.py",),
    ),
    Mutation(
        name="boot-of-before-proves-a-restart",
        at="core.charger.restart:RestartWatch.observe_boot",
        find="self._pressed_at <= booted_at <= self._pressed_at + AWAY_WITHIN",
        put="booted_at <= self._pressed_at + AWAY_WITHIN",
        tests=("tests/core/test_restart_evidence.py",),
    ),
    Mutation(
        name="windows-end-at-midnight",
        at="core.schedule:_opening",
        find="day if window.start < window.end else day + DAY",
        put="day",
        tests=("tests/core/test_schedule.py", "-k", "midnight"),
    ),
    Mutation(
        name="lifetime-energy-counted-twice",
        at="core.charger.readings:ReadingsStore._add_session_gain",
        find="LIFETIME_ENERGY not in readings and not total_is_newer and not metered",
        put="LIFETIME_ENERGY not in readings and not metered",
        tests=("tests/core/test_readings.py",),
    ),
    Mutation(
        name="silence-counts-as-a-try",
        at="core.charger.override:OverrideController._reported_since",
        find="max(self._sent_at, self._begun_at)",
        put="self._sent_at",
        tests=("tests/wallbox/test_override_cloud.py", "-k", "no_attempt_to_restore"),
    ),
    Mutation(
        name="override-without-back-off",
        at="core.cooldown:Backoff.failed",
        find="self._due_at = self._clock.monotonic() + max(self._wait, at_least)",
        put="pass",
        tests=("tests/core/test_override.py",),
    ),
    Mutation(
        name="pause-of-a-switch-is-never-lifted",
        at="core.charger.override:OverrideController._hand_back",
        find="by_switch and inside is False",
        put="False",
        tests=("tests/core/test_override.py", "-k", "pause"),
    ),
    Mutation(
        name="group-raises-before-others-came-down",
        at="core.load_group.group:LoadGroup._divide_limit",
        find="raising and max(state.possible_draw, state.target) <= self._room(state)",
        put="raising",
        tests=("tests/core/test_group.py",),
    ),
    Mutation(
        name="pause-of-a-group-becomes-the-users",
        at="core.charger.commands:Commands._carry_out_now",
        find="""
            if not queued.automatic:
                await self.after_user_command(setting, base)
        """,
        put="await self.after_user_command(setting, base)",
        tests=("tests/core/test_charger_in_group.py",),
    ),
    Mutation(
        name="read-only-pursues",
        at="core.charger.override:OverrideController._reconcile",
        find="await self._end_for_read_only()",
        put="pass",
        tests=("tests/core/test_override.py", "-k", "read_only"),
    ),
    Mutation(
        name="override-of-pause-never-sent",
        at="core.charger.override:OverrideController._next_step",
        find="self._context.group_pause_sent or intent.state is not IntentState.PENDING",
        put="True",
        tests=("tests/core/test_charger_in_group.py",),
    ),
    Mutation(
        name="schedule-not-read-back",
        at="core.charger.override:OverrideController._disable_schedule",
        find="""
            if not schedule.same(await transport.read_schedule(), wanted):
                raise NotApplicable("schedule_not_taken")
        """,
        put="await transport.read_schedule()",
        tests=("tests/core/test_override.py", "-k", "does_not_show"),
    ),
    Mutation(
        name="originals-found-by-place",
        at="core.model:Window.content",
        find="self.days, self.start, self.end, self.zone, max_current, self.max_energy",
        put="self.slot, self.days, self.start, self.end, self.zone, max_current, self.max_energy",
        tests=("tests/wallbox/test_override_cloud.py", "-k", "ids_moved"),
    ),
    Mutation(
        name="originals-forgotten-unread",
        at="core.charger.override:OverrideController._handle_refusal",
        find="intent.originals",
        put="None",
        tests=("tests/core/test_override.py", "-k", "original_windows_kept or restored_later"),
    ),
    Mutation(
        name="originals-forgotten-for-an-old-list",
        at="core.charger.override:OverrideController._may_show_later",
        find="self._clock.monotonic() < self._disabled_at + SHOWS_WITHIN",
        put="False",
        tests=("tests/core/test_override.py", "-k", "shows_late"),
    ),
    Mutation(
        name="session-ended-by-one-answer",
        at="core.charger.session:SessionEnergy._take_fall",
        find="""
            if first is None or not possible or not _agree(first, self._fall):
                return None
        """,
        put="pass",
        tests=("tests/core/test_readings.py",),
    ),
    Mutation(
        name="session-energy-without-bound",
        at="core.charger.session:SessionEnergy._follow",
        find="""
            if gained > could_have_flowed(new.observed_mono - count.at):
                return None
        """,
        put="pass",
        tests=("tests/core/test_readings.py",),
    ),
    Mutation(
        name="total-without-bound",
        at="core.charger.totals:LifetimeTotals.take",
        find="""
            if new.value - last.value > could_have_flowed(new.observed_mono - last.observed_mono):
                return None
        """,
        put="pass",
        tests=("tests/core/test_readings.py",),
    ),
    Mutation(
        name="counter-started-again-by-a-glitch",
        at="core.charger.totals:LifetimeTotals._take_fall",
        find="""
            if new.value == fall.value:
                return None
        """,
        put="pass",
        tests=("tests/core/test_readings.py",),
    ),
    Mutation(
        name="session-of-before-not-resumed",
        at="core.charger.session:SessionEnergy.take",
        find="self._resume(count, new, duration) or self._follow(count, new, duration)",
        put="self._follow(count, new, duration)",
        tests=("tests/core/test_readings.py",),
    ),
    Mutation(
        name="time-passed-while-off-forgotten",
        at="core.charger.energy:mono_before",
        find="new.observed_mono - max((new.observed_at - old.observed_at).total_seconds(), 0.0)",
        put="new.observed_mono",
        tests=("tests/core/test_readings.py",),
    ),
    Mutation(
        name="raised-while-another-is-over",
        at="core.limits:permit",
        find="""
            if amps > room:
                raise UnsafeRequest("no_group_room", f"{max(room, 0.0):g}")
        """,
        put="pass",
        tests=("tests/core/test_charger_in_group.py",),
    ),
    Mutation(
        name="static-share-after-a-start",
        at="core.load_group.group:LoadGroup.restore",
        find="state.share = floor(room) if room >= MINIMUM_CURRENT else 0",
        put="pass",
        tests=("tests/core/test_group.py",),
    ),
    Mutation(
        name="refusing-member-not-paused",
        at="core.load_group.member:MemberState.record_refusal",
        find="self.defies |= is_refused or self.failures >= FAILURES_TO_PAUSE",
        put="pass",
        tests=("tests/core/test_group_members.py",),
    ),
    Mutation(
        name="ignoring-member-not-paused",
        at="core.load_group.member:MemberState.check_defiance",
        find="self.defies or is_ignored",
        put="self.defies",
        tests=("tests/core/test_group_members.py",),
    ),
    Mutation(
        name="measured-current-not-counted",
        at="core.load_group.member:MemberState.refresh",
        find="self.possible_current = max(self.current_setting, self.excess.amps)",
        put="self.possible_current = self.current_setting",
        tests=("tests/core/test_group_members.py",),
    ),
    Mutation(
        name="one-measurement-suffices",
        at="core.load_group.measured",
        find="REPEATED_AFTER = 30.0",
        put="REPEATED_AFTER = 0.0",
        tests=("tests/core/test_group_members.py",),
    ),
    Mutation(
        name="absurd-measurement-counts",
        at="core.load_group.measured:measured_current",
        find="(amps, at) if amps <= rating else None",
        put="(amps, at)",
        tests=("tests/core/test_group_members.py",),
    ),
    Mutation(
        name="overdrawing-member-started-again",
        at="core.load_group.member:MemberState._measure",
        find="self.overdrawn = max(self.overdrawn, self.excess.amps)",
        put="pass",
        tests=("tests/core/test_group_members.py",),
    ),
    Mutation(
        name="member-without-share-not-counted",
        at="core.load_group.member:MemberState.counted_current",
        find="self.start_preventable and self.is_idle and self.share == 0",
        put="self.is_idle and self.share == 0",
        tests=("tests/core/test_group_members.py",),
    ),
    Mutation(
        name="share-lent-that-anybody-may-draw",
        at="core.load_group.shares:shares",
        find="left = max(left - MINIMUM_CURRENT * unserved, 0)",
        put="pass",
        tests=("tests/core/test_group_members.py",),
    ),
    Mutation(
        name="share-not-stored",
        at="core.load_group.group:LoadGroup.restore",
        find="self._restore_shares(entries)",
        put="pass",
        tests=("tests/core/test_group_members.py",),
    ),
    Mutation(
        name="unknown-setting-lowered",
        at="core.load_group.member:MemberState.refresh",
        find="not has_current or not is_known or self.overdrawn > 0",
        put="not has_current or self.overdrawn > 0",
        tests=("tests/core/test_group.py",),
    ),
    Mutation(
        name="late-arrival-corrected-upward",
        at="core.charger.sent_commands:_is_below",
        find="latest.amps < late.amps",
        put="latest.amps != late.amps",
        tests=("tests/core/test_late_arrival.py",),
    ),
    Mutation(
        name="unreadable-limit-vanishes",
        at="core.charger.readings:ReadingsStore._keep_as_bound",
        find="self._readings.put(limit, replace(old, source=Source.CACHE))",
        put="self._readings.remove(limit)",
        tests=("tests/core/test_bounds.py",),
    ),
    Mutation(
        name="unreadable-limit-shown-as-fresh",
        at="core.charger.readings:ReadingsStore._keep_as_bound",
        find="self._readings.put(limit, replace(old, source=Source.CACHE))",
        put="pass",
        tests=("tests/core/test_bounds.py",),
    ),
    Mutation(
        name="room-seen-too-late",
        at="core.load_group.group:LoadGroup.room",
        find="""
            for state in self._states.values():
                state.refresh()
        """,
        put="pass",
        tests=("tests/core/test_group.py",),
    ),
    Mutation(
        name="started-while-another-is-over",
        at="core.charger.commands:Commands.lower_for_start",
        find="known = limits.with_room(known, room)",
        put="pass",
        tests=("tests/core/test_charger_in_group.py",),
    ),
    Mutation(
        name="update-ended-by-another-transport",
        at="core.charger.danger:DangerWatch.on_readings",
        find="self._updates.pop(transport.source, None)",
        put="self._updates.clear()",
        tests=("tests/core/test_danger.py",),
    ),
    Mutation(
        name="update-ended-by-offline",
        at="core.charger.danger:DangerWatch.on_readings",
        find="status is not None and status is not Status.OFFLINE",
        put="status is not None",
        tests=("tests/core/test_danger.py",),
    ),
    Mutation(
        name="update-ended-by-a-stored-version",
        at="core.charger.danger:DangerWatch._firmware",
        find="reading is None or reading.observed_mono == -inf",
        put="reading is None",
        tests=("tests/core/test_danger.py",),
    ),
    Mutation(
        name="update-not-saved",
        at="core.charger.danger:DangerWatch.save_if_due",
        find="""
            if saved.keys() != known.keys() or any(self._is_due(saved[source], known[source]) for source in known):
                self._saving.start()
        """,
        put="""
            if saved.keys() != known.keys():
                pass
        """,
        tests=("tests/core/test_danger.py",),
    ),
    Mutation(
        name="update-forgotten-after-three-hours",
        at="core.charger.restart_service:RestartService._facts",
        find="self._danger.update_doubted is not None",
        put="False",
        tests=("tests/core/test_danger.py",),
    ),
    Mutation(
        name="running-update-dismissed",
        at="core.charger.danger:DangerWatch.dismiss",
        find="""
            if self._age(update) >= UPDATE_WITHIN:
                self._updates[source] = replace(update, at=now, dismissed=True)
        """,
        put="self._updates[source] = replace(update, at=now, dismissed=True)",
        tests=("tests/core/test_danger.py",),
    ),
    Mutation(
        name="dismissed-update-comes-back",
        at="core.charger.danger:DangerWatch._note_update",
        find="known is None or _reported_at(transport) > known.at",
        put="known is None or known.dismissed or _reported_at(transport) > known.at",
        tests=("tests/core/test_danger.py",),
    ),
    Mutation(
        name="charging-ended-by-another-transport",
        at="core.charger.danger:DangerWatch.on_readings",
        find="self._flowing.pop(transport.source, None)",
        put="self._flowing.clear()",
        tests=("tests/core/test_danger.py",),
    ),
    Mutation(
        name="charging-never-expires",
        at="core.charger.danger:DangerWatch.flowing",
        find="(source for source, reading in self._flowing.items() if reading.expires_at > now)",
        put="iter(self._flowing)",
        tests=("tests/core/test_danger.py",),
    ),
    Mutation(
        name="verified-by-an-old-report",
        at="core.charger.evidence:judge",
        find="report.reported_at > sent_at",
        put="report.reported_at > -inf",
        tests=("tests/core/test_evidence.py",),
    ),
    Mutation(
        name="verified-by-what-proves-nothing",
        at="core.charger.sent_commands:SentCommands._report",
        find="transport.proves(setting.capability)",
        put="True",
        tests=("tests/core/test_refuted.py",),
    ),
    Mutation(
        name="verified-by-other-signs-of-life",
        at="core.charger.evidence:report_time",
        find="min(observed_at, reported_at(transport))",
        put="observed_at",
        tests=("tests/core/test_evidence_machine.py",),
    ),
    Mutation(
        name="acknowledged-override-is-applied",
        at="core.charger.override:OverrideController.shown",
        find="followed and intent.state is IntentState.VERIFIED",
        put="intent.state is not IntentState.PENDING",
        tests=("tests/core/test_override.py",),
    ),
    Mutation(
        name="refuted-command-forgotten",
        at="core.charger.refuted:RefutedCommands.restore",
        find="self._context.intents.entries.refuted",
        put="None",
        tests=("tests/core/test_refuted.py",),
    ),
    Mutation(
        name="lost-pause-forgotten",
        at="core.charger.pause:PauseController._seen",
        find="self._first_report.is_late(transport, self._sent_at, SILENT_FOR)",
        put="False",
        tests=("tests/wallbox/test_evidence_cloud.py", "-k", "pause_outlive"),
    ),
)
