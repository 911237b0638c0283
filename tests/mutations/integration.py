"""Mutations of the part that uses Home Assistant: linked entities, storage, flows."""

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        name="group-limit-too-low-accepted",
        at="flows.load_group:LoadGroupSteps.async_step_members",
        find="self._limit < (lowest := self._spec().lowest_limit)",
        put="(lowest := 0) and self._limit < lowest",
        tests=("tests/integration/test_load_group_flow.py", "-k", "limit_refused"),
    ),
    Mutation(
        name="power-off-not-noted-first",
        at="linked.power_cycle:PowerCycle.begin",
        find="await self._write()",
        put="pass",
        tests=("tests/integration/test_linked_box.py", "tests/integration/test_power_cycle.py"),
    ),
    Mutation(
        name="power-off-under-load",
        at="linked.box_entity_transport:BoxEntityTransport._rests",
        find="not self._flows and now - self._rested_at <= REST <= now - self._resting_since",
        put="now > 0",
        tests=("tests/integration/test_linked_box.py", "tests/integration/test_power_cycle.py"),
    ),
    Mutation(
        name="power-cycled-again-and-again",
        at="linked.box_entity_transport:BoxEntityTransport._require_safe_override",
        find="last is not None and last.spent",
        put="False",
        tests=("tests/integration/test_linked_box.py",),
    ),
    Mutation(
        name="stored-limit-let-loose",
        at="linked.box_entity_transport:BoxEntityTransport._require_safe_offline_current",
        find="offline_current is None or highest is None or offline_current > highest",
        put="offline_current is None or highest is None",
        tests=("tests/integration/test_linked_box.py",),
    ),
    Mutation(
        name="account-id-names-a-file",
        at="ha.storage:file_name",
        find='sha256(unique_id.encode("utf-8", "surrogatepass")).hexdigest()',
        put="unique_id",
        tests=("tests/integration/test_file_names.py",),
    ),
    Mutation(
        name="files-of-before-forgotten",
        at="ha.storage:file_name",
        find="""
            if unique_id in existing:
                return unique_id
        """,
        put="pass",
        tests=("tests/integration/test_storage.py",),
    ),
    Mutation(
        name="files-shared-by-capitals",
        at="ha.storage:file_name",
        find="_UUID.fullmatch(unique_id) and not taken",
        put="_UUID.fullmatch(unique_id)",
        tests=("tests/integration/test_file_names.py",),
    ),
    Mutation(
        name="reversed-clamp-is-rest",
        at="linked.entity_transport:is_flowing",
        find="abs(amount)",
        put="amount",
        tests=("tests/integration/test_power_cycle.py", "-k", "clamp"),
    ),
    Mutation(
        name="power-cut-without-a-last-look",
        at="linked.power_cycle:PowerCycle.begin.commit",
        find="guard()",
        put="pass",
        tests=("tests/integration/test_power_cycle.py", "-k", "saved"),
    ),
    Mutation(
        name="restored-meter-is-rest",
        at="linked.box_entity_transport:BoxEntityTransport._on_state",
        find='is_own_report(old_state(event), event.data["new_state"], restores=True)',
        put='is_own_report(old_state(event), event.data["new_state"], restores=False)',
        tests=("tests/integration/test_power_cycle.py", "-k", "restored"),
    ),
    Mutation(
        name="any-state-of-the-meter-is-rest",
        at="linked.box_entity_transport:BoxEntityTransport._update_from_meter",
        find="""
            if reported_at <= max(self._flowed_at, self._rested_at):
                return
        """,
        put="reported_at = self._metered_at",
        tests=("tests/integration/test_power_cycle.py", "-k", "restored"),
    ),
    Mutation(
        name="switch-is-believed-when-it-shows-on",
        at="linked.power_cycle:PowerCycle._is_on_again",
        find="self.went_off and self._state_is(STATE_ON)",
        put="self._state_is(STATE_ON)",
        tests=("tests/integration/test_power_cycle.py", "-k", "goes_off_late"),
    ),
    Mutation(
        name="assumed-state-is-proof",
        at="linked.power_cycle:PowerCycle._state_is",
        find="state is not None and state.state == value and not state.attributes.get(ATTR_ASSUMED_STATE)",
        put="state is not None and state.state == value",
        tests=("tests/integration/test_power_cycle.py", "-k", "assumed"),
    ),
    Mutation(
        name="old-duty-carried-out",
        at="linked.power_cycle:PowerCycle.trying",
        find="self.active and self._age < CYCLE",
        put="self.active",
        tests=("tests/integration/test_power_cycle.py", "-k", "old_power_cycle or unknown_age"),
    ),
    Mutation(
        name="record-of-power-saved-once",
        at="linked.power_cycle:PowerCycle._save_until_done",
        find="await self._clock.sleep(SAVE_AGAIN)",
        put="return",
        tests=("tests/integration/test_power_cycle.py", "-k", "saved"),
    ),
    Mutation(
        name="pushed-state-written-by-us",
        at="linked.entity_transport:EntityTransport.check",
        find="_can_be_polled(entity)",
        put="entity.available",
        tests=("tests/integration/test_linked_reports.py", "-k", "hours_ago"),
    ),
    Mutation(
        name="poll-under-way-counts",
        at="linked.entity_transport:_can_be_polled",
        find='entity.should_poll and has_update and not getattr(entity, "_update_staged", True)',
        put="entity.should_poll and has_update",
        tests=("tests/integration/test_linked_reports.py", "-k", "hangs"),
    ),
    Mutation(
        name="restored-state-is-a-report",
        at="linked.entity_transport:is_own_report",
        find="""
            if not restores:
                return True
        """,
        put="return True",
        tests=("tests/integration/test_linked_reports.py", "-k", "reload_of_its_integration or distinguished_from"),
    ),
    Mutation(
        name="restored-state-found-is-a-report",
        at="linked.entity_transport:EntityTransport._note_existing",
        find="state.last_reported == state.last_changed and self._restores(state.entity_id)",
        put="state.last_reported != state.last_reported",
        tests=("tests/integration/test_linked_reports.py", "-k", "at_our_start"),
    ),
    Mutation(
        name="failed-poll-is-a-report",
        at="linked.entity_transport:EntityTransport.check",
        find="coordinator is not None and coordinator.last_update_success and self._listener is not None",
        put="coordinator is not None and self._listener is not None",
        tests=("tests/integration/test_linked_reports.py", "-k", "failed_poll"),
    ),
    Mutation(
        name="older-flow-stays",
        at="flows.user_flow:UserFlow.async_claim",
        find='flow["flow_id"] != self.flow_id',
        put='flow["flow_id"] == ""',
        tests=("tests/integration/test_juicebox_flow.py", "-k", "left_at_any_step"),
    ),
    Mutation(
        name="unknown-circuit-counts-as-no",
        at="entries.juicebox:box_config",
        find="SharedCircuit.of(data) is not SharedCircuit.NO",
        put="SharedCircuit.of(data) is SharedCircuit.YES",
        tests=("tests/integration/test_juicebox_flow.py", "-k", "shared_circuit"),
    ),
    Mutation(
        name="linked-echo-is-a-report",
        at="linked.echoes:Echoes.is_echo",
        find="self._clock.monotonic() < self._until[link]",
        put="False",
        tests=("tests/integration/test_linked_evidence.py", "-k", "own_report"),
    ),
    Mutation(
        name="linked-context-of-our-call-ignored",
        at="linked.echoes:Echoes.is_echo",
        find="self._clock.monotonic() < self._until[link] or is_ours",
        put="self._clock.monotonic() < self._until[link]",
        tests=("tests/integration/test_linked_evidence.py", "-k", "echo"),
    ),
    Mutation(
        name="linked-assumed-state-proves",
        at="linked.echoes:only_repeats",
        find="state.attributes.get(ATTR_ASSUMED_STATE) is True",
        put="False",
        tests=("tests/integration/test_linked_evidence.py", "-k", "assumed"),
    ),
    Mutation(
        name="linked-button-is-a-sign-of-life",
        at="linked.entity_transport:EntityTransport._on_state",
        find="link == CONF_RESTART_BUTTON",
        put="False",
        tests=("tests/integration/test_linked_evidence.py", "-k", "button"),
    ),
    Mutation(
        name="linked-unproving-entities-not-named",
        at="flows.entity_link:LinkedSubentryFlow._name_unproving_or_finish",
        find="self._unproving",
        put="[]",
        tests=("tests/integration/test_linked_evidence.py", "-k", "named_once"),
    ),
)
