"""Mutations of the answers to JuiceBoxes."""

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        name="box-believed-wherever-it-speaks",
        at="juicebox.listener:Listener._is_genuine",
        find="not self._has_moved(listed, message, host, now)",
        put="not host",
        tests=("tests/juicebox/test_listener.py", "-k", "i9"),
    ),
    Mutation(
        name="box-checksum-not-checked",
        at="juicebox.datagram:_checked",
        find="isinstance(message, StatusMessage) and _symbols(_hashed(raw, head.state)) != rest[:3]",
        put="not rest",
        tests=("tests/juicebox/test_datagram.py",),
    ),
    Mutation(
        name="box-pause-not-kept-alive",
        at="juicebox.box:Box._process_status",
        find="self.mode is Mode.KEEP",
        put="self.mode is Mode.KEEP and not self.state.paused",
        tests=("tests/juicebox/test_box.py", "-k", "pause"),
    ),
    Mutation(
        name="box-taken-over-too-late",
        at="juicebox.box",
        find="LONGEST_UNSERVED = 110.0",
        put="LONGEST_UNSERVED = 160.0",
        tests=("tests/juicebox/test_box.py", "-k", "within_120_s"),
    ),
    Mutation(
        name="box-without-share-not-lowered",
        at="juicebox.box:Box.limits",
        find="self.setting",
        put="self.state.charging_current",
        tests=("tests/juicebox/test_transport.py", "-k", "may_lower"),
    ),
    Mutation(
        name="box-handed-back-at-once",
        at="juicebox.server_health:ServerHealth.may_return",
        find="self._good >= GOOD_TO_HAND_BACK and now - self._good_since >= HAND_BACK_AFTER",
        put="self._good > 0",
        tests=("tests/juicebox/test_box.py",),
    ),
    Mutation(
        name="box-stored-limit-varies",
        at="juicebox.box:Box._answer",
        find="""
            CommandMessage(
                weekday=local.isoweekday() % 7,
                hour=local.hour,
                minute=local.minute,
                online=self._next_current(now),
                offline=state.offline,
                flags=FLAGS_CYCLE[index % len(FLAGS_CYCLE)] if state.cycles else state.flags,
                index=index,
                wide=state.version == WIDE_VERSION,
            )
        """,
        put="""
            CommandMessage(
                weekday=local.isoweekday() % 7,
                hour=local.hour,
                minute=local.minute,
                online=self._next_current(now),
                offline=self.allowed or state.offline,
                flags=FLAGS_CYCLE[index % len(FLAGS_CYCLE)] if state.cycles else state.flags,
                index=index,
                wide=state.version == WIDE_VERSION,
            )
        """,
        tests=("tests/juicebox/test_box.py",),
    ),
    Mutation(
        name="box-late-start-teaches",
        at="juicebox.command_clock:CommandClock.record_boot",
        find="now - self._booted_at < ONE_START or self._commanded_since_boot(now)",
        put="now - self._booted_at < ONE_START",
        tests=("tests/juicebox/test_box.py", "-k", "i11 or boot_message_after"),
    ),
    Mutation(
        name="box-override-lost-at-take-over",
        at="juicebox.box:Box._overridden",
        find="self.state.override or self._override_requested",
        put="self.state.override",
        tests=("tests/integration/test_juicebox.py", "-k", "relay_and_keep"),
    ),
    Mutation(
        name="box-override-handed-back",
        at="juicebox.box:Box._consider_handing_back",
        find="""
            if self.may_replace_server:
                return
        """,
        put="pass",
        tests=("tests/juicebox/test_box.py", "tests/juicebox/test_transport.py", "-k", "override"),
    ),
    Mutation(
        name="box-two-masters",
        at="juicebox.box:Box.from_server",
        find="""
            if self.mode is Mode.KEEP:
                self._consider_handing_back(received.observed_mono)
            elif self._relaying:
                self._relay(command, data, received.observed_mono)
        """,
        put="""
            if self.mode is Mode.KEEP:
                self._consider_handing_back(received.observed_mono)
            if self._relaying:
                self._relay(command, data, received.observed_mono)
        """,
        tests=("tests/juicebox/test_box.py", "-k", "never_both_answer or late_server_answer"),
    ),
    Mutation(
        name="box-share-forgotten",
        at="juicebox.box:Box.limits",
        find="(self.config.load_group_limit, self.share)",
        put="(self.config.load_group_limit,)",
        tests=("tests/juicebox/test_box.py", "-k", "lower_share"),
    ),
    Mutation(
        name="box-window-ends-at-midnight",
        at="juicebox.juicenet.client:Tou.windows",
        find="[(day.start, DAY_MINUTES), (0, day.end)]",
        put="[(day.start, DAY_MINUTES)]",
        tests=("tests/juicebox/test_juicenet_client.py",),
    ),
    Mutation(
        name="box-answers-through-the-guard",
        at="juicebox.box:Box._next_current",
        find="now < self._cooldown.start_at",
        put="now < 0",
        tests=("tests/juicebox/test_box.py", "-k", "window"),
    ),
    Mutation(
        name="slot-of-yesterday-is-todays",
        at="juicebox.interval_energy:IntervalEnergy.record",
        find="start -= DAY",
        put="start -= 0 * DAY",
        tests=("tests/juicebox/test_interval_energy.py",),
    ),
    Mutation(
        name="box-server-current-passes",
        at="juicebox.box:Box._permitted",
        find="(amps, highest, requested)",
        put="(amps, requested)",
        tests=("tests/juicebox/test_relay.py",),
    ),
    Mutation(
        name="box-server-stored-passes",
        at="juicebox.box:Box._permitted_stored",
        find="max(known, wire)",
        put="HIGHEST_CURRENT",
        tests=("tests/juicebox/test_relay.py",),
    ),
    Mutation(
        name="box-taken-over-before-the-user",
        at="juicebox.box:Box._take_over",
        find="not self._user_change_pending",
        put="True",
        tests=("tests/juicebox/test_box.py", "-k", "after_take_over"),
    ),
    Mutation(
        name="box-moves-with-any-energy",
        at="juicebox.listener:Listener._has_moved",
        find="not has_energy or not listed.track.energy_fits(message, now)",
        put="not has_energy",
        tests=("tests/juicebox/test_listener.py", "-k", "impossible_energy"),
    ),
    Mutation(
        name="box-pinned-address-must-wait",
        at="juicebox.listener:Listener._has_moved",
        find="host != listed.pinned",
        put="host",
        tests=("tests/juicebox/test_listener.py", "-k", "wins_back"),
    ),
)
