"""What every client has to show as a member of consumer groups. usage: groups.py NAME AGENT [ADMIN AGENT]

AGENT is the shell command that starts an agent of the client (agent.py); ADMIN AGENT is another client's, for what the first one
lacks to create topics and write records. Tests run side by side (PARALLEL, default 4): most of their time they wait.
"""

import os
import shlex
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import administration
from agent import Refused
from agents import Agent, owned_twice, wait_until

SHORT_SESSION_MS, LONG_SESSION_MS = 6_000, 45_000
# Well below the long session: what happens within it does not happen because a session expired.
SOON_SECONDS = 25
# Kafka's numbers of errors.
UNKNOWN_TOPIC, METADATA_TOO_LARGE, GROUP_ID_NOT_FOUND, FENCED_INSTANCE, UNRELEASED_INSTANCE = 3, 12, 69, 82, 111
UNKNOWN_MEMBER, ILLEGAL_GENERATION, REBALANCING, STALE_EPOCH, FENCED_EPOCH = 25, 22, 27, 113, 110


class Group:
    """A group of one test, with a topic of its own; its members end with the test."""

    def __init__(self, suite, partitions=4, suffix=""):
        self.suite, self.name = suite, suite.new_name() + suffix
        self.topic, self.members = self.name, []
        # Whether two members that own a partition at one time are a failure.
        self.exclusive = "exact" in suite.features
        suite.admin("create_topic", topic=self.topic, partitions=partitions)
        self.partitions = self.names(self.topic, partitions)

    @staticmethod
    def names(topic, partitions):
        return [f"{topic}:{partition}" for partition in range(partitions)]

    def join(self, kind="eager", session_ms=LONG_SESSION_MS, heartbeat_ms=500, instance=None, reset="earliest", auto_commit=None, pattern=None,
             command=None):
        member = Agent(command or self.suite.command)
        self.members.append(member)
        if auto_commit is None:
            auto_commit = "commit" not in self.suite.features
        member.call("join", group=self.name, topics=[self.topic], pattern=pattern, session_ms=session_ms, heartbeat_ms=heartbeat_ms,
                    instance=instance, assignor=kind, reset=reset, auto_commit=auto_commit)
        return member

    def settled(self, members, partitions=None, seconds=60):
        """Waits until the members own all partitions, none owned by two, and each as many as the others, give or take one."""
        partitions = partitions or self.partitions

        def holds():
            owned = [sorted(member.owned) for member in members]
            sizes = [len(some) for some in owned]
            return sorted(sum(owned, [])) == sorted(partitions) and max(sizes) - min(sizes) <= 1

        wait_until(holds, lambda: f"all partitions are shared: {[(sorted(m.owned), m.errors[-2:], m.last_words()) for m in members]}", seconds)

    def produce(self, count, partitions=None):
        for name in partitions or self.partitions:
            topic, number = name.rsplit(":", 1)
            self.suite.admin("produce", topic=topic, partition=int(number), count=count)

    def read(self, members, first, count, partitions=None):
        """Waits until the members have read `count` records from each partition's offset `first` on."""
        wanted = {(name, first + i) for name in partitions or self.partitions for i in range(count)}
        wait_until(lambda: wanted <= set().union(*(member.records for member in members)),
                   lambda: f"all is read: missing {sorted(wanted - set().union(*(m.records for m in members)))[:5]}, errors {[m.errors[-2:] for m in members]}")

    def offsets(self, asker=None):
        """What is committed: told by the admin's client where it can, by a member otherwise."""
        if "group_offsets" in self.suite.features:
            found = self.suite.admin("group_offsets", group=self.name)
            return {name: found.get(name, [None, ""]) for name in self.partitions}
        return (asker or self.members[-1]).call("committed", partitions=self.partitions)

    def end(self):
        for member in self.members:
            member.kill()


class Suite:
    def __init__(self, name, command, admin=None):
        self.name, self.command = name, shlex.split(command)
        self._own = Agent(self.command)
        self._admin = Agent(shlex.split(admin)) if admin else self._own
        self.features = set(self._own.call("features"))
        self.prefix = f"{name}-{os.getpid()}-{int(time.time()) % 100000}"
        self.names, self.passed, self.failed = 0, 0, 0
        self._lock = threading.Lock()

    def admin(self, verb, **arguments):
        """By the client itself where it can, and by the other one where it cannot."""
        agent = self._own if verb in self.features else self._admin
        return agent.call(verb, **arguments)

    def refused(self, codes, agent, verb, **arguments):
        """The error, which must be one of `codes`; with no codes, any refusal will do."""
        try:
            answer = agent(verb, **arguments) if callable(agent) else agent.call(verb, **arguments)
        except Refused as error:
            assert not codes or error.code in codes, f"{verb}: error {codes} expected, got {error}"
            return error
        raise AssertionError(f"{verb}: error {codes} expected, but it was accepted: {answer}")

    def new_name(self):
        with self._lock:
            self.names += 1
            return f"{self.prefix}-{self.names}"

    def check(self, name, test, *arguments):
        started, groups = time.monotonic(), []

        def group(*args, **keywords):
            groups.append(Group(self, *args, **keywords))
            return groups[-1]

        try:
            try:
                test(self, group, *arguments)
            finally:
                for one in groups:
                    one.end()
            for one in groups:
                assert not one.exclusive or (twice := owned_twice(one.members)) is None, f"owned by two at one time: {twice}"
        except Exception as error:
            outcome = f"FAILED {self.name}: {name}: {type(error).__name__}: {error}"
            if not isinstance(error, (AssertionError, Refused)):
                outcome += "\n" + traceback.format_exc()
        else:
            outcome = f"ok {self.name}: {name} ({time.monotonic() - started:.2f} s)"
        with self._lock:
            self.passed, self.failed = self.passed + outcome.startswith("ok"), self.failed + (not outcome.startswith("ok"))
            print(outcome, flush=True)

    def run(self):
        only = os.environ.get("ONLY", "")
        tests = [test for test in [*member_tests(self.features), *administration.tests(self.features)] if only in test[0]]
        with ThreadPoolExecutor(int(os.environ.get("PARALLEL", "4"))) as pool:
            for done in [pool.submit(self.check, *test) for test in tests]:
                done.result()
        self.end()
        return self.failed == 0 and self.passed > 0

    def end(self):
        self._own.kill()
        self._admin.kill()
        print(f"{self.passed} passed, {self.failed} failed", flush=True)


def member_tests(features):
    """Name, function and arguments of each test that the client's features allow; the longest first."""
    kinds = [kind for kind in ("eager", "cooperative", "consumer") if kind in features]
    for kind in kinds:
        yield f"{kind}: one of two members is killed, and the other takes over when its session expires", dies, kind
    if "commit" in features:
        yield "a member that was expelled unawares cannot commit", expelled
    for kind in kinds:
        yield f"{kind}: two members share the partitions, one leaves, the other has them all at once", share_and_leave, kind
        if ("static_consumer" if kind == "consumer" else "static") in features:
            yield f"{kind}: a static member restarts and nobody notices", static, kind
        if "fenced" in features:
            yield f"{kind}: two members do not go by one group.instance.id", same_instance, kind
        if "create_partitions" in features:
            yield f"{kind}: partitions and topics that are added are shared too", grows, kind
        if "commit" in features:
            yield f"{kind}: commits with metadata, sync and async, and resumes there", resumes, kind
            yield f"{kind}: commits for unknown topics and with too much metadata are refused", refused_commits, kind
        if "commit_as" in features:
            yield f"{kind}: commits of strangers and of former generations are refused", strangers, kind
    if "auto_commit" in features:
        yield "offsets are committed by themselves, at intervals and at the end", auto_commit
    if "none" in features:
        yield "without an offset and without a reset policy nothing is read", no_reset


def share_and_leave(suite, group, kind):
    g = group()
    a = g.join(kind)
    g.settled([a])
    b = g.join(kind)
    g.settled([a, b])
    if kind == "eager":
        assert a.revoked == set(g.partitions), f"eager: everything is given up first, not {sorted(a.revoked)}"
    else:
        assert a.revoked == b.owned, f"only what {sorted(b.owned)} the other gets is given up, not {sorted(a.revoked)}"
    g.produce(10)
    g.read([a, b], 0, 10)
    for member in (a, b):
        wanted = sorted((name, offset) for name in member.owned for offset in range(10))
        assert sorted(member.records) == wanted, f"each owner reads its own, once: {sorted(member.records)} and not {wanted}"
    left = sorted(b.owned)
    if "commit" in suite.features:
        b.call("commit", how="sync", offsets={name: [10, ""] for name in left})
    b.close()
    g.settled([a], seconds=SOON_SECONDS)
    g.produce(3, left)
    g.read([a], 10, 3, left)
    again = [record for record in a.records if record[0] in left and record[1] < 10]
    assert not again, f"what the other had committed is read again: {again}"


def dies(suite, group, kind):
    g = group()
    a, b = g.join(kind, SHORT_SESSION_MS), g.join(kind, SHORT_SESSION_MS)
    g.settled([a, b])
    g.produce(5)
    g.read([a, b], 0, 5)
    commits = "commit" in suite.features
    if commits:
        for member in (a, b):
            member.call("commit", how="sync", offsets={name: [3, ""] for name in member.owned})
    inherited, killed = sorted(b.owned), time.monotonic()
    b.kill()
    g.settled([a], seconds=90)
    expired = time.monotonic() - killed
    assert expired > 0.6 * SHORT_SESSION_MS / 1000, f"expelled after {expired:.1f} s already, before its session has expired"
    g.produce(1, inherited)
    g.read([a], 5, 1, inherited)
    if commits:
        for name in inherited:
            got = [offset for partition, offset in a.records if partition == name]
            assert got == [3, 4, 5], f"{name} goes on at the committed offset 3: {got}"


def static(suite, group, kind):
    g = group()
    a, b = g.join(kind, instance="one"), g.join(kind, instance="two")
    g.settled([a, b])
    g.produce(4)
    g.read([a, b], 0, 4)
    mine, rebalances = set(a.owned), b.rebalances
    if "commit" in suite.features:
        a.call("commit", how="sync", offsets={name: [4, ""] for name in mine})
    if kind == "consumer":
        # Whoever does not say good-bye (epoch -2) keeps its name until the session expires.
        a.close()
    else:
        a.kill()
    again = g.join(kind, instance="one")
    again.until(lambda member: member.owned == mine, "the restarted member has its partitions back", SOON_SECONDS)
    g.produce(2)
    g.read([again, b], 4, 2)
    assert b.rebalances == rebalances, "the other member saw a rebalance"
    if "commit" in suite.features:
        assert min(offset for _, offset in again.records) == 4, f"does not go on at the committed offset: {again.records}"


def same_instance(suite, group, kind):
    g = group()
    # The first one learns only with its next heartbeat that it is no longer the owner.
    g.exclusive = False
    a = g.join(kind, instance="same")
    g.settled([a])
    b = g.join(kind, instance="same")
    if kind == "consumer":
        b.until(lambda member: UNRELEASED_INSTANCE in [code for code, _ in member.errors], "the second is refused: UNRELEASED_INSTANCE_ID")
        assert a.owned == set(g.partitions) and not b.owned, f"{a.owned} {b.owned}"
    else:
        b.until(lambda member: member.owned == set(g.partitions), "the second has the partitions")
        wait_until(lambda: fenced(a, g.partitions[0]), lambda: f"the first is fenced, FENCED_INSTANCE_ID: {a.errors}")


def fenced(member, partition):
    """Whether the member has met FENCED_INSTANCE_ID: on its own, or, as some clients tell nobody, when it commits."""
    if FENCED_INSTANCE in [code for code, _ in member.errors]:
        return True
    try:
        member.call("commit", how="sync", offsets={partition: [0, ""]})
    except Refused as error:
        return error.code == FENCED_INSTANCE
    raise AssertionError("the first one's commit was accepted after the second has joined")


def grows(suite, group, kind):
    g = group(partitions=2, suffix="-grows")
    pattern = g.topic + ".*" if "pattern" in suite.features else None
    a, b = g.join(kind, pattern=pattern), g.join(kind, pattern=pattern)
    g.settled([a, b])
    suite.admin("create_partitions", topic=g.topic, count=4)
    partitions = g.names(g.topic, 4)
    g.settled([a, b], partitions)
    if pattern:
        suite.admin("create_topic", topic=f"{g.topic}-too", partitions=2)
        partitions += g.names(f"{g.topic}-too", 2)
        g.settled([a, b], partitions)
    g.produce(3, partitions)
    g.read([a, b], 0, 3, partitions)


def resumes(suite, group, kind):
    g = group(partitions=3)
    zero, one, two = g.partitions
    a = g.join(kind)
    g.settled([a])
    g.produce(10)
    g.read([a], 0, 10)
    a.call("commit", how="sync", offsets={zero: [2, "first"], one: [9, ""]})
    a.call("commit", how="sync", offsets={zero: [4, "a note, é"]})
    a.call("commit", how="async", offsets={one: [7, "back again"]})
    wanted = {zero: [4, "a note, é"], one: [7, "back again"], two: [None, ""]}
    if "committed" in suite.features:
        assert (found := a.call("committed", partitions=g.partitions)) == wanted, f"committed: {found}"
    a.close()
    b = g.join(kind)
    g.settled([b], seconds=SOON_SECONDS)
    g.read([b], 9, 1)
    for name, first in ((zero, 4), (one, 7), (two, 0)):
        got = [offset for partition, offset in b.records if partition == name]
        assert got == list(range(first, 10)), f"{name} resumes at {first}: {got}"
    if "group_offsets" in suite.features or "committed" in suite.features:
        assert (found := g.offsets(b)) == wanted, f"committed by the one, seen by the other: {found}"


def refused_commits(suite, group, kind):
    g = group(partitions=1)
    name, = g.partitions
    a = g.join(kind)
    g.settled([a])
    if "commit_any" in suite.features:
        # Some clients take an unknown topic for a passing trouble, and a synchronous commit waits until it is there.
        suite.refused([UNKNOWN_TOPIC], a, "commit", how="async" if "async" in suite.features else "sync", offsets={f"{g.topic}-unknown:0": [1, ""]})
    suite.refused([METADATA_TOO_LARGE], a, "commit", how="sync", offsets={name: [1, "x" * 5000]})
    a.call("commit", how="sync", offsets={name: [1, "x" * 4000]})
    assert (found := g.offsets(a)) == {name: [1, "x" * 4000]}, f"committed: {found}"


def strangers(suite, group, kind):
    g = group(partitions=1)
    name, = g.partitions
    a = g.join(kind)
    g.settled([a])
    member, generation = a.call("identity")
    stale = STALE_EPOCH if kind == "consumer" else ILLEGAL_GENERATION

    def commit(member, generation, offset=7, group=g.name):
        return {"group": group, "member": member, "generation": generation, "offsets": {name: [offset, ""]}}

    suite.refused([stale], suite.admin, "commit_as", **commit(member, generation - 1))
    suite.refused([stale], suite.admin, "commit_as", **commit(member, generation + 1))
    suite.refused([UNKNOWN_MEMBER], suite.admin, "commit_as", **commit("nobody", generation))
    suite.refused([UNKNOWN_MEMBER], suite.admin, "commit_as", **commit("", -1))
    suite.refused([GROUP_ID_NOT_FOUND], suite.admin, "commit_as", **commit("nobody", 5, group=f"{g.name}-unknown"))
    assert (found := g.offsets(a)) == {name: [None, ""]}, f"committed: {found}"
    suite.admin("commit_as", **commit(member, generation))
    assert (found := g.offsets(a)) == {name: [7, ""]}, f"committed: {found}"
    a.close()
    suite.admin("commit_as", **commit("", -1, 8))
    assert (found := g.offsets(a)) == {name: [8, ""]}, f"committed: {found}"


def auto_commit(suite, group):
    g = group(partitions=2)
    a = g.join(auto_commit=True)
    g.settled([a])
    g.produce(10)
    g.read([a], 0, 10)
    if "group_offsets" in suite.features or "committed" in suite.features:
        wait_until(lambda: [offset for offset, _ in g.offsets(a).values()] == [10, 10], lambda: f"everything read is committed: {g.offsets(a)}")
    g.produce(1)
    g.read([a], 10, 1)
    a.close()
    b = g.join(auto_commit=True)
    g.settled([b])
    g.produce(1)
    g.read([b], 11, 1)
    assert sorted(b.records) == [(name, 11) for name in g.partitions], f"only what is new is read: {sorted(b.records)}"


def no_reset(suite, group):
    g = group(partitions=1)
    g.produce(3)
    a = g.join(reset="none")
    g.settled([a])
    a.until(lambda member: member.errors or member.records, "there is an error")
    assert not a.records, f"records were read: {a.records}"


def expelled(suite, group):
    g = group(partitions=2)
    a, b = g.join(session_ms=SHORT_SESSION_MS), g.join(session_ms=SHORT_SESSION_MS)
    g.settled([a, b])
    g.produce(6)
    g.read([a, b], 0, 6)
    mine = sorted(a.owned)
    a.stop()
    g.settled([b])
    b.call("commit", how="sync", offsets={name: [5, "new owner"] for name in mine})
    # While the other one is stopped too, the group cannot get to a new generation in which this commit would be right.
    b.stop()
    number = a.start("commit", how="sync", offsets={name: [4, "old owner"] for name in mine})
    a.resume()
    try:
        a.result(number, "commit")
    except Refused as error:
        # Not every client lets the request go out, or gives the broker's own number.
        assert error.code in (None, UNKNOWN_MEMBER, ILLEGAL_GENERATION, REBALANCING, STALE_EPOCH, FENCED_EPOCH), str(error)
    else:
        raise AssertionError("the commit of the expelled member was accepted")
    finally:
        b.resume()
    found = g.offsets(b)
    assert all(found[name] == [5, "new owner"] for name in mine), f"the new owner's commit is gone: {found}"


if __name__ == "__main__":
    sys.exit(0 if Suite(*sys.argv[1:]).run() else 1)
