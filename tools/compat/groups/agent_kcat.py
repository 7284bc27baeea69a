"""kcat as an agent: `kcat -G`, of which standard output tells records and standard error rebalances. It commits by itself."""

import os
import re
import signal
import subprocess
import threading

import agent

REBALANCE = re.compile(r"% Group .* rebalanced.*?(assign|revoke)(.*)")
FENCED_INSTANCE = 82
PARTITION = re.compile(r"(\S+) \[(\d+)\]")


class Kcat(agent.Agent):
    # What it prints comes some time after it happened.
    features = {"eager", "cooperative", "static", "fenced", "pattern", "auto_commit", "none", "produce"}
    assignors = {"eager": "range", "cooperative": "cooperative-sticky"}

    def join(self, group, topics, pattern, session_ms, heartbeat_ms, instance, assignor, reset, auto_commit):
        settings = {"session.timeout.ms": session_ms, "heartbeat.interval.ms": heartbeat_ms, "fetch.wait.max.ms": 100,
                    "partition.assignment.strategy": self.assignors[assignor], "topic.metadata.refresh.interval.ms": 500,
                    "auto.offset.reset": {"none": "error"}.get(reset, reset), "enable.auto.commit": str(auto_commit).lower(),
                    "auto.commit.interval.ms": 200, "client.id": "member"}
        if instance:
            settings["group.instance.id"] = instance
        options = [word for name, value in settings.items() for word in ("-X", f"{name}={value}")]
        self.process = subprocess.Popen(["kcat", "-b", self.bootstrap, "-u", "-f", "%t %p %o\n", *options, "-G", group,
                                         *([f"^{pattern}"] if pattern else topics)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.readers = [threading.Thread(target=read, daemon=True) for read in (self._records, self._rebalances)]
        for reader in self.readers:
            reader.start()

    def _records(self):
        for line in self.process.stdout:
            topic, partition, offset = line.split()
            self.event("record", partition=f"{topic.decode()}:{partition.decode()}", offset=int(offset))

    def _rebalances(self):
        for line in self.process.stderr:
            line = line.decode(errors="replace").strip()
            if rebalance := REBALANCE.match(line):
                partitions = [(topic, int(partition)) for topic, partition in PARTITION.findall(rebalance[2])]
                self.event({"assign": "assigned", "revoke": "revoked"}[rebalance[1]], partitions)
            elif "ERROR" in line or "FATAL" in line:
                self.event("error", code=FENCED_INSTANCE if "fenced" in line else None, message=line)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(agent.TIMEOUT_SECONDS)
        for reader in self.readers:
            reader.join()

    def produce(self, topic, partition, count):
        lines = b"".join(b"%d\n" % number for number in range(count))
        subprocess.run(["kcat", "-b", os.environ["BOOTSTRAP"], "-P", "-t", topic, "-p", str(partition), "-X", "acks=all"], input=lines, check=True,
                       capture_output=True, timeout=agent.TIMEOUT_SECONDS)

    def error_code(self, error):
        return None


agent.main(Kcat)
