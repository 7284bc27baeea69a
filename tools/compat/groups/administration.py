"""What the clients' admins have to show: groups and their offsets, partitions, configs, deleted records."""

import os

from agents import wait_until

UNKNOWN_TOPIC, OFFSET_OUT_OF_RANGE, UNKNOWN_MEMBER, INVALID_PARTITIONS, INVALID_CONFIG = 3, 1, 25, 37, 40
NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, GROUP_SUBSCRIBED_TO_TOPIC = 68, 69, 86


def tests(features):
    kinds = [kind for kind in ("eager", "consumer") if kind in features]
    if "list_groups" in features:
        for kind in kinds:
            yield f"{kind}: groups are listed and described, their offsets altered, all of it deleted", groups, kind
    if "create_partitions" in features:
        yield "partitions are added, never taken away", partitions
    if "configs" in features:
        yield "a topic's configs are described", configs
    if "alter_configs" in features:
        yield "a topic's configs are altered one by one, and wrong ones refused", alter_configs
    if "replace_configs" in features:
        yield "a topic's configs are replaced all at once, and wrong ones refused", replace_configs
    if "delete_records" in features:
        yield "records before an offset are deleted", delete_records


def groups(suite, group, kind):
    g, features = group(partitions=2), suite.features
    zero, one = g.partitions
    a, b = g.join(kind), g.join(kind)
    g.settled([a, b])
    for member in (a, b):
        member.call("commit", how="sync", offsets={name: [1, "m"] for name in member.owned})
    described_by = "describe_consumer_group" if kind == "consumer" else "describe_group"
    if described_by in features:
        described = {}

        def whole():
            described.update(suite.admin("describe_group", group=g.name))
            return described["state"].upper() == "STABLE" and sorted(sum((m["partitions"] for m in described["members"]), [])) == [zero, one]

        # In the new protocol a member's acknowledgement of its partitions is one heartbeat away.
        wait_until(whole, lambda: f"the group is stable and described: {described}")
        assert sorted(len(m["partitions"]) for m in described["members"]) == [1, 1], described
        assert all(m["client_id"].startswith("member") and m["host"].strip("/").startswith("127.") for m in described["members"]), described
    listed = suite.admin("list_groups")
    assert g.name in listed and (listed[g.name] or "Stable").upper() == "STABLE", f"listed as {listed.get(g.name)}"
    if "group_offsets" in features:
        assert (found := suite.admin("group_offsets", group=g.name)) == {zero: [1, "m"], one: [1, "m"]}, f"offsets: {found}"
    if "alter_offsets" in features:
        # One client looks first, and does not even try.
        suite.refused([UNKNOWN_MEMBER, None], suite.admin, "alter_offsets", group=g.name, offsets={zero: [3, ""]})
    if "delete_offsets" in features:
        suite.refused([GROUP_SUBSCRIBED_TO_TOPIC], suite.admin, "delete_offsets", group=g.name, partitions=[zero])
    if "delete_group" in features:
        suite.refused([NON_EMPTY_GROUP], suite.admin, "delete_group", group=g.name)
    a.close()
    b.close()
    if described_by in features:
        wait_until(lambda: suite.admin("describe_group", group=g.name)["state"].upper() == "EMPTY", "the group is empty")
    g.produce(5)
    if "alter_offsets" in features:
        suite.admin("alter_offsets", group=g.name, offsets={zero: [3, "altered"]})
        c = g.join(kind)
        g.settled([c])
        g.read([c], 4, 1)
        assert sorted(c.records) == [(zero, 3), (zero, 4), (one, 1), (one, 2), (one, 3), (one, 4)], f"read from the altered offset: {sorted(c.records)}"
        c.close()
    if "delete_offsets" in features:
        suite.admin("delete_offsets", group=g.name, partitions=[zero])
        assert (found := suite.admin("group_offsets", group=g.name)) == {one: [1, "m"]}, f"offsets after a deletion: {found}"
    if "delete_group" in features:
        suite.admin("delete_group", group=g.name)
        assert g.name not in suite.admin("list_groups"), "the deleted group is listed"
        suite.refused([GROUP_ID_NOT_FOUND], suite.admin, "delete_group", group=g.name)
        if "group_offsets" in features:
            found = suite.admin("group_offsets", group=g.name)
            assert all(offset is None for offset, _ in found.values()), f"a deleted group's offsets: {found}"


def partitions(suite, group):
    g = group(partitions=2)
    suite.admin("create_partitions", topic=g.topic, count=5)
    g.produce(2, g.names(g.topic, 5))
    suite.refused([INVALID_PARTITIONS], suite.admin, "create_partitions", topic=g.topic, count=5)
    suite.refused([INVALID_PARTITIONS], suite.admin, "create_partitions", topic=g.topic, count=3)
    suite.refused([UNKNOWN_TOPIC], suite.admin, "create_partitions", topic=f"{g.topic}-unknown", count=3)


def configs(suite, group):
    g = group(partitions=1)
    found = suite.admin("configs", topic=g.topic)
    wanted = {"cleanup.policy": "delete", "retention.ms": "604800000", "segment.bytes": "1073741824", "min.insync.replicas": os.environ.get("MIN_INSYNC_REPLICAS", "1")}
    assert {name: found.get(name) for name in wanted} == wanted, f"described: {found}"
    suite.refused([UNKNOWN_TOPIC, None], suite.admin, "configs", topic=f"{g.topic}-unknown")


def told(suite, topic, wanted):
    last = {}

    def holds():
        last.update(suite.admin("configs", topic=topic))
        return {name: last[name] for name in wanted} == wanted

    wait_until(holds, lambda: f"{wanted} is told: { {name: last[name] for name in wanted} }")


def replace_configs(suite, group):
    g = group(partitions=1)
    suite.admin("replace_configs", topic=g.topic, set={"retention.ms": "12345", "max.message.bytes": "5000"})
    told(suite, g.topic, {"retention.ms": "12345", "max.message.bytes": "5000"})
    if "config_errors" in suite.features:
        suite.refused([INVALID_CONFIG], suite.admin, "replace_configs", topic=g.topic, set={"no.such.config": "1"})
        suite.refused([INVALID_CONFIG], suite.admin, "replace_configs", topic=g.topic, set={"max.message.bytes": "6000", "retention.ms": "soon"})
        suite.refused([UNKNOWN_TOPIC], suite.admin, "replace_configs", topic=f"{g.topic}-unknown", set={"retention.ms": "1"})
        told(suite, g.topic, {"retention.ms": "12345", "max.message.bytes": "5000"})
    suite.admin("replace_configs", topic=g.topic, set={"max.message.bytes": "6000"})
    told(suite, g.topic, {"retention.ms": "604800000", "max.message.bytes": "6000"})


def alter_configs(suite, group):
    g = group(partitions=1)

    def alter(topic=g.topic, set={}, delete=(), append={}):
        return {"topic": topic, "set": set, "delete": list(delete), "append": append}

    suite.admin("alter_configs", **alter(set={"retention.ms": "12345", "max.message.bytes": "5000"}))
    told(suite, g.topic, {"retention.ms": "12345", "max.message.bytes": "5000"})
    suite.admin("alter_configs", **alter(set={"retention.ms": "54321"}))
    told(suite, g.topic, {"retention.ms": "54321", "max.message.bytes": "5000"})
    suite.admin("alter_configs", **alter(delete=["retention.ms"]))
    told(suite, g.topic, {"retention.ms": "604800000", "max.message.bytes": "5000"})
    suite.admin("alter_configs", **alter(append={"cleanup.policy": "compact"}))
    told(suite, g.topic, {"cleanup.policy": "delete,compact"})
    suite.refused([INVALID_CONFIG], suite.admin, "alter_configs", **alter(set={"no.such.config": "1"}))
    suite.refused([INVALID_CONFIG], suite.admin, "alter_configs", **alter(set={"retention.ms": "soon"}))
    suite.refused([UNKNOWN_TOPIC], suite.admin, "alter_configs", **alter(topic=f"{g.topic}-unknown", set={"retention.ms": "1"}))
    told(suite, g.topic, {"retention.ms": "604800000", "max.message.bytes": "5000", "cleanup.policy": "delete,compact"})


def delete_records(suite, group):
    g = group(partitions=2)
    zero, one = g.partitions
    g.produce(10)
    assert (low := suite.admin("delete_records", topic=g.topic, partition=0, before=4)) == 4, f"first offset left: {low}"
    a = g.join()
    g.settled([a])
    g.read([a], 4, 6)
    assert min(offset for name, offset in a.records if name == zero) == 4, f"read: {sorted(a.records)}"
    assert min(offset for name, offset in a.records if name == one) == 0, f"read: {sorted(a.records)}"
    suite.refused([OFFSET_OUT_OF_RANGE], suite.admin, "delete_records", topic=g.topic, partition=0, before=11)
    assert (low := suite.admin("delete_records", topic=g.topic, partition=0, before=-1)) == 10, f"first offset left: {low}"
