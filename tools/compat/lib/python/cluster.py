"""Several brokers that are one cluster: started, killed and restarted one by one.

NODES  how many brokers a scenario that is written for one has to do with (`one_or_several`)
"""

import os
import random
import secrets
import threading
import time

from confluent_kafka.admin import AdminClient

import ports
from broker import Broker, quiet

NODES = int(os.environ.get("NODES", "1"))
# What topics of such scenarios have.
REPLICATION_FACTOR = NODES


class Cluster:
    def __init__(self, nodes=3, *arguments):
        """Nodes 1 to `nodes`, which all vote and are brokers, with further arguments."""
        internal = [ports.free() for _ in range(nodes)]
        self.arguments = arguments
        self.voters = voters = ",".join(f"{node}@{self.host(node)}:{port}" for node, port in enumerate(internal, 1))
        self.brokers = {}
        for node in range(1, nodes + 1):
            self.brokers[node] = self.make(node, "--set", f"controller_quorum_voters={voters}", *arguments)
        self.folder = self.brokers[1].folder
        self.secret = secret = os.path.join(self.folder, "secret")
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        for broker in self.brokers.values():
            broker.command += ["--set", f"cluster_secret_file={secret}"]
        self.bootstrap = ",".join(broker.bootstrap for broker in self.brokers.values())

    def make(self, node, *arguments):
        return Broker("--node-id", str(node), *arguments)

    def host(self, _node):
        return "127.0.0.1"

    def start(self, nodes=None):
        """All at once, or some of them: none can do anything without a majority."""
        failures = []

        def start(broker):
            try:
                broker.start()
            except RuntimeError as error:
                failures.append(error)

        starting = [threading.Thread(target=start, args=[self.brokers[node]]) for node in nodes or self.brokers]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        if failures:
            raise failures[0]

    def join(self, node):
        """Starts another broker, which does not vote."""
        broker = Broker("--node-id", str(node), "--set", f"controller_quorum_voters={self.voters}", "--set", f"cluster_secret_file={self.secret}",
                        "--set", "process_roles=broker", "--set", f"cluster_listen=127.0.0.1:{ports.free()}", *self.arguments)
        self.brokers[node] = broker
        self.bootstrap += "," + broker.bootstrap
        broker.start()

    def alive(self):
        return [node for node, broker in self.brokers.items() if broker.alive()]

    def panicked(self):
        return any(broker.panicked() for broker in self.brokers.values())

    def last_words(self):
        return "\n".join(f"node {node}:\n{broker.last_words()}" for node, broker in self.brokers.items())


def one_or_several(*arguments):
    """A broker, or with NODES a cluster that can be used like one."""
    return Broker(*arguments) if NODES == 1 else AsOne(*arguments)


class AsOne(Cluster):
    """A cluster in which everything is on all nodes, and min.insync.replicas is 2. It is killed by killing one of its brokers, each time another one by chance; what
    it uses is what all of them use."""

    def __init__(self, *arguments):
        super().__init__(NODES, "--set", f"default_replication_factor={NODES}", "--set", f"offsets_topic_replication_factor={NODES}",
                         "--set", "min.insync.replicas=2", *arguments)
        first = self.brokers[1]
        self.port, self.admin, self.log_path = first.port, first.admin, first.log_path
        self.random = random.Random(1)

    @property
    def process(self):
        return self.brokers[1].process

    def start(self):
        """Seconds until those that did not run answer."""
        started = time.monotonic()
        if not self.alive():
            super().start()
            self.wait_for_all()
        for broker in self.brokers.values():
            if not broker.alive():
                broker.start()
        return time.monotonic() - started

    def wait_for_all(self):
        """Until topics can be on all brokers."""
        admin = quiet(AdminClient, {"bootstrap.servers": self.bootstrap})
        while len(admin.list_topics(timeout=30).brokers) < NODES:
            time.sleep(0.05)

    def kill(self):
        self.brokers[self.random.choice(self.alive())].kill()

    def stop(self):
        return sum(broker.stop() for broker in self.brokers.values())

    def rss_bytes(self):
        return sum(broker.rss_bytes() for broker in self.brokers.values())

    def cpu_seconds(self):
        return sum(broker.cpu_seconds() for broker in self.brokers.values())
