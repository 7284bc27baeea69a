"""Several brokers that are one cluster: started, killed and restarted one by one."""

import os
import secrets
import threading

import ports
from broker import Broker


class Cluster:
    def __init__(self, nodes=3, *arguments):
        """Nodes 1 to `nodes`, which all vote and are brokers, with further arguments."""
        internal = [ports.free() for _ in range(nodes)]
        self.arguments = arguments
        self.voters = voters = ",".join(f"{node + 1}@127.0.0.1:{port}" for node, port in enumerate(internal))
        self.brokers = {}
        for node in range(1, nodes + 1):
            self.brokers[node] = Broker("--node-id", str(node), "--set", f"controller_quorum_voters={voters}", *arguments)
        self.folder = self.brokers[1].folder
        self.secret = secret = os.path.join(self.folder, "secret")
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        for broker in self.brokers.values():
            broker.command += ["--set", f"cluster_secret_file={secret}"]
        self.bootstrap = ",".join(broker.bootstrap for broker in self.brokers.values())

    def start(self):
        """All at once: none of them can do anything without a majority."""
        failures = []

        def start(broker):
            try:
                broker.start()
            except RuntimeError as error:
                failures.append(error)

        starting = [threading.Thread(target=start, args=[broker]) for broker in self.brokers.values()]
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
