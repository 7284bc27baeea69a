"""One node of Apache Kafka with its defaults, on one core, for comparison."""

import glob
import os
import shutil
import socket
import subprocess
import tempfile
import time

from machine import READY_SECONDS, Served, settle

# As in Kafka's own kafka-server-start.sh and kafka-run-class.sh.
JVM = ["-Xms1G", "-Xmx1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"]
CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAA"


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


class Kafka(Served):
    """A broker and controller with an empty data directory, which goes with it."""

    def __init__(self, machine, jars):
        if not jars or not glob.glob(os.path.join(jars, "kafka_*.jar")):
            raise RuntimeError("the jars of Apache Kafka are missing: run this by tools/figures/run, with java and mvn")
        self.folder = tempfile.mkdtemp(prefix="kafka.", dir=machine.folder)
        client_port, controller_port = free_ports(2)
        properties = os.path.join(self.folder, "server.properties")
        with open(properties, "w") as file:
            file.write(
                "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n"
                f"listeners=PLAINTEXT://127.0.0.1:{client_port},CONTROLLER://127.0.0.1:{controller_port}\n"
                f"controller.quorum.voters=1@127.0.0.1:{controller_port}\n"
                f"log.dirs={os.path.join(self.folder, 'data')}\noffsets.topic.replication.factor=1\n"
            )
        java = ["taskset", "--cpu-list", machine.broker_cores, "java", *JVM, "-cp", os.path.join(jars, "*")]
        self.log = os.path.join(self.folder, "log")
        with open(self.log, "w") as output:
            storage = [*java, "kafka.tools.StorageTool", "format", "--config", properties, "--cluster-id", CLUSTER_ID]
            if subprocess.run(storage, stdout=output, stderr=output, check=False).returncode != 0:
                raise RuntimeError(f"Kafka's storage cannot be formatted: {self.said()}")
            process = subprocess.Popen([*java, "kafka.Kafka", properties], stdout=output, stderr=output)
        super().__init__(machine, process, f"127.0.0.1:{client_port}")
        begun = time.monotonic()
        while "Kafka Server started" not in self.said():
            if self.process.poll() is not None or time.monotonic() > begun + READY_SECONDS:
                self.process.kill()
                raise RuntimeError(f"Kafka is not ready: {self.said()}")
            time.sleep(0.1)

    def said(self):
        with open(self.log) as output:
            return output.read()[-4000:]

    def __exit__(self, *_):
        super().__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)
        settle()
