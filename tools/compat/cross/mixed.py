"""Members of different clients in one group. usage: mixed.py (CLIENT AGENT)...

Whoever leads a group of the classic protocol assigns partitions to the others, so it reads what they have written of themselves
and they read what it has written for them. Clients that are not installed here are left out; the first one must be.
"""

import os
import shlex
import shutil
import sys

import groups
from agents import Agent


def installed(client, command):
    return shutil.which(command[0]) and (client != "kcat" or shutil.which("kcat"))


def share(suite, group, kind, commands):
    g = group(partitions=2 * len(commands))
    # What some print comes some time after it happened.
    g.exclusive = False
    members = [g.join(kind, groups.SHORT_SESSION_MS, auto_commit=False, command=command) for command in commands]
    g.settled(members)
    g.produce(5)
    g.read(members, 0, 5)
    for member in members:
        wanted = sorted((name, offset) for name in member.owned for offset in range(5))
        assert sorted(member.records) == wanted, f"each owner reads its own, once: {sorted(member.records)} and not {wanted}"
    members.pop(0).close()
    g.settled(members)
    members.pop().kill()
    g.settled(members)


def main(*arguments):
    clients = {name: shlex.split(command) for name, command in zip(arguments[::2], arguments[1::2])}
    missing = [name for name, command in clients.items() if not installed(name, command)]
    for name in missing:
        print(f"mixed groups without {name}", flush=True)
        del clients[name]
    features = {}
    for name, command in clients.items():
        agent = Agent(command)
        features[name] = agent.call("features")
        agent.kill()
    suite = groups.Suite("mixed", shlex.join(next(iter(clients.values()))))
    for kind in ("eager", "cooperative", "consumer"):
        able = [name for name in clients if kind in features[name]]
        suite.check(f"{kind}: {', '.join(able)} share one group; one leaves, one is killed", share, kind, [clients[name] for name in able])
    suite.end()
    return suite.failed == 0 and not (missing and os.environ.get("CI"))


if __name__ == "__main__":
    sys.exit(0 if main(*sys.argv[1:]) else 1)
