"""kill -9 at random moments under acks=all load from an idempotent librdkafka producer and an idempotent Java producer.

After each restart: every record that was acknowledged, or that a reader has seen before, is where it was; each producer's
records are in every partition once and in order. At the end everything that was sent is there.
usage: kill_loop.py --kills N [--seed S]
"""

import argparse
import os
import random
import sys
import time

from confluent_kafka.admin import AdminClient, NewTopic

from broker import Report
from cluster import REPLICATION_FACTOR, one_or_several
from ledger import Reader, conclude, end_load, start_producers, verify, wait_for_load

TOPIC, PARTITIONS = "kill-loop", 4


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rate", type=float, default=2000, help="records per second of each producer")
    parser.add_argument("--first-after", type=float, default=3, help="seconds before the first kill")
    options = parser.parse_args()
    rng, report = random.Random(options.seed), Report("kill-loop")
    report.say(f"{options.kills} kills, seed {options.seed}")
    broker = one_or_several()
    broker.start()
    os.environ["BOOTSTRAP"] = broker.bootstrap
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics([NewTopic(TOPIC, PARTITIONS, REPLICATION_FACTOR)]).values():
        future.result(30)
    del admin
    logs, producers = start_producers(broker.folder, TOPIC, PARTITIONS, options.rate)
    reader, restarts, acknowledged = Reader(broker.bootstrap, TOPIC, PARTITIONS), [], 0
    try:
        wait_for_load(logs, producers)
        time.sleep(options.first_after)
        for kill in range(options.kills):
            # Most often in the middle of things, sometimes right after a restart.
            time.sleep(rng.choice([rng.uniform(0, 0.05), rng.uniform(0.05, 0.5), rng.uniform(0.5, 1.5)]))
            broker.kill()
            restarts.append(broker.start())
            acknowledged += verify(reader, logs)
            if reader.problems:
                report.check(False, f"after kill {kill + 1}: " + "; ".join(reader.problems[:10]))
                break
            if (kill + 1) % 10 == 0 or kill + 1 == options.kills:
                report.say(f"after kill {kill + 1}: {acknowledged} acknowledged, {sum(reader.positions)} read, all in place")
    finally:
        end_load(producers)
    conclude(report, producers, reader, logs, acknowledged)
    again = Reader(broker.bootstrap, TOPIC, PARTITIONS)
    broker.kill()
    broker.start()
    again.catch_up()
    report.check(again.at == reader.at and not again.problems, "a last kill, and everything read again from the start is the same")
    ordered = sorted(restarts)
    if ordered:
        report.say(f"restart after kill -9: median {ordered[len(ordered) // 2] * 1000:.0f} ms, largest {ordered[-1] * 1000:.0f} ms, of {len(ordered)}")
    return report.close(broker)


sys.exit(main())
