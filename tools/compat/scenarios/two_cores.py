"""`--cores 0-1` serves connections and partitions on both cores with the same results as one core; `--cores 0-N` beyond the
machine's is refused in one paragraph. usage: two_cores.py DATA
"""

import os
import subprocess
import sys
import urllib.request

from broker import Broker, Report, environment

HERE = os.path.dirname(os.path.abspath(__file__))
TOPIC = "cores"
CONNECTIONS = 64


def client(broker, *arguments):
    program = os.path.join(HERE, "..", "lib", "python", "client_confluent.py")
    done = subprocess.run([sys.executable, program, *arguments], env={**os.environ, "BOOTSTRAP": broker.bootstrap}, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{arguments}: {done.stderr[-1000:]}")
    return done.stdout


def threads_cpu(broker):
    """CPU ticks of each thread that is pinned to exactly one core, added up by core."""
    ticks = {}
    tasks = f"/proc/{broker.process.pid}/task"
    for task in os.listdir(tasks):
        cores = os.sched_getaffinity(int(task))
        if len(cores) == 1:
            with open(f"{tasks}/{task}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            core = next(iter(cores))
            ticks[core] = ticks.get(core, 0) + int(fields[11]) + int(fields[12])
    return ticks


def serve(cores, data):
    """The data read back, and the CPU ticks by core, of a broker on these cores."""
    broker = Broker("--cores", cores)
    broker.start()
    client(broker, "create", TOPIC, "3")
    for compression in ["none", "lz4", "zstd"]:
        client(broker, "write", TOPIC, compression, data)
    before = client(broker, "read", TOPIC)
    # Enough connections and partitions that chance leaves no core without.
    client(broker, "create", "wide", str(CONNECTIONS))
    load(broker)
    ticks = threads_cpu(broker)
    broker.kill()
    broker.start()
    after = client(broker, "read", TOPIC)
    return before, after, ticks, broker


def load(broker):
    from confluent_kafka import Producer
    producers = [Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "linger.ms": 1}) for _ in range(CONNECTIONS)]
    for turn in range(2000):
        for number, producer in enumerate(producers):
            producer.produce("wide", b"x" * 500, partition=(number + turn) % CONNECTIONS)
            producer.poll(0)
    if any(producer.flush(60) for producer in producers):
        raise RuntimeError("not everything was delivered")


def main(data):
    report = Report("two-cores")
    one_before, one_after, _, one = serve("0", data)
    one.stop()
    both_before, both_after, ticks, both = serve("0-1", data)
    report.check(set(ticks) == {0, 1} and all(ticks.values()), f"both cores worked: CPU ticks by core {ticks}")
    report.check(one_before == one_after and both_before == both_after, "read back the same after kill -9")
    report.check(one_before == both_before and one_before, f"one core and two give the same {one_before.count(chr(10))} records")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{both.admin}/metrics", timeout=10) as answer:
            report.check(answer.status == 200 and answer.read(), "metrics are served")
    except OSError as problem:
        report.check(False, f"metrics are served: {problem}")
    both.stop()
    cores = os.cpu_count()
    wanted = f"0-{max(7, cores)}"
    refused = subprocess.run([os.environ["BROKER_BIN"], "--cores", wanted, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", os.path.join(both.folder, "refused")],
                             env=environment(), capture_output=True, text=True, timeout=30)
    words = refused.stdout + refused.stderr
    report.check(refused.returncode != 0 and "cores" in words and wanted in words and "panicked" not in words and len(words) < 1500,
                 f"--cores {wanted} is refused: {words.strip()!r}")
    return report.close(both)


sys.exit(main(*sys.argv[1:]))
