"""Measures the broker and the machine in turns and prints one table; usage: figures.py --bin FOLDER [OPTIONS], or tools/figures/run.

The broker has a core of its own and so has the client. Whatever else runs on the machine, and on the disk, goes into the figures, so their ratios to the machine's limits of the
same turn count more than they do.
"""

import argparse
import json
import statistics
import sys
import time

from kafka import Kafka
from machine import Discard, Machine, finished

MS, GB = 1e6, 1e9


class Figures:
    """Values by name, one for each turn, in the order in which they came first."""

    def __init__(self):
        self.values, self.units = {}, {}

    def add(self, name, value, unit):
        self.values.setdefault(name, []).append(value)
        self.units[name] = unit
        print(f"  {name}: {value:.3g} {unit}", file=sys.stderr, flush=True)

    def latency(self, name, result):
        for key, quantile in (("p50_ns", "p50"), ("p99_ns", "p99"), ("p999_ns", "p99.9")):
            self.add(f"{name}: {quantile}", result["latency"][key] / MS, "ms")

    def throughput(self, name, result, limit=None, limit_name=""):
        rate = result["payload_bytes_per_second"]
        self.add(name, rate / GB, "GB/s")
        if limit:
            self.add(f"{name}, share of {limit_name}", 100 * rate / limit, "%")
        if result["cpu"] and result["cpu"]["broker"]:
            self.add(f"{name}, broker's processor time", result["cpu"]["broker"]["seconds_per_gb"], "s/GB")

    def table(self):
        lines = ["| what | median | all |", "|---|---|---|"]
        for name, values in self.values.items():
            unit = self.units[name]
            lines.append(f"| {name} | {statistics.median(values):.3g} {unit} | {', '.join(f'{value:.3g}' for value in values)} |")
        return "\n".join(lines)


def journal_limit(limits):
    return max(journal["bytes_per_second"] for journal in limits["journal"])


def small_write_ns(limits):
    return min(journal["p50_ns"] for journal in limits["journal"])


def machine_limits(machine, figures, options):
    """What the machine allows: `bench limits`."""
    limits = machine.limits()
    figures.add("limits: loopback", limits["tcp_bytes_per_second"] / GB, "GB/s")
    figures.add("limits: journal", journal_limit(limits) / GB, "GB/s")
    figures.add("limits: new files, written and synced", limits["segments_bytes_per_second"] / GB, "GB/s")
    figures.add("limits: direct reads", limits["disk_read_bytes_per_second"] / GB, "GB/s")
    figures.add("limits: round trip of 100 B + synced write of 4 KiB, p50", (limits["ping_pong_p50_ns"] + small_write_ns(limits)) / MS, "ms")
    for key, quantile in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")):
        figures.add(f"limits: the barest program at 1,000/s: {quantile}", limits[f"synced_record_{key}_ns"] / MS, "ms")


def amplification(figures, name, before, after):
    def grown(metric):
        return after[metric] - before[metric]

    written = grown("broker_journal_written_bytes_total") + grown("broker_segment_written_bytes_total")
    figures.add(f"{name}: bytes on the disk for each byte appended", written / grown("broker_appended_bytes_total"), "")


def mean_commit_ms(before, after):
    commits = after["broker_journal_commit_time_ms_count"] - before["broker_journal_commit_time_ms_count"]
    return (after["broker_journal_commit_time_ms_sum"] - before["broker_journal_commit_time_ms_sum"]) / max(1, commits)


def latency(machine, figures, options):
    """1 KiB at 1,000/s, acks=all, synced, over 1 to 10,000 partitions."""
    paced = ["--rate", "1k", "--size", "1KiB", "--linger-ms", "0"]
    with machine.broker("--memory", "1G") as broker:
        for partitions, seconds in ((1, "5s"), (100, "5s"), (1000, "5s"), (10000, "6s")):
            before = broker.metrics()
            result = broker.bench("produce", *paced, "--topic", f"l{partitions}", "--partitions", str(partitions), "--duration", seconds, "--warmup", "2s")
            after = broker.metrics()
            name = f"1 KiB at 1,000/s, {partitions} partition{'s' if partitions > 1 else ''}"
            figures.latency(name, result)
            figures.add(f"{name}: a commit, mean", mean_commit_ms(before, after), "ms")
            if partitions == 1:
                # Segments get what was appended when the flusher comes round.
                time.sleep(12)
                amplification(figures, name, before, broker.metrics())
    # A client that spins leaves nothing of its core to the disk's interrupts, wherever these are handled; so it is tried on either core.
    for broker_cores, client_cores in ((machine.broker_cores, machine.client_cores), (machine.client_cores, machine.broker_cores)):
        with machine.broker("--memory", "1G", cores=broker_cores) as broker:
            spinning = broker.bench("produce", *paced, "--topic", "l1", "--partitions", "1", "--duration", "5s", "--warmup", "1s", "--spin", cores=client_cores)
            figures.latency(f"1 KiB at 1,000/s, 1 partition, a client that spins on core {client_cores}", spinning)


def throughput(machine, figures, options):
    """The largest rate of produce in large and small batches, and reading from segments."""
    limits = machine.limits()
    for connections in (1, 2, 4):
        with machine.broker("--memory", "1G") as broker:
            before = broker.metrics()
            result = broker.bench("produce", "--rate", "max", "--size", "1KiB", "--batch-bytes", "900KiB", "--partitions", "8", "--connections", str(connections), "--duration", "5s", "--warmup", "1s")
            name = f"largest produce, batches of 900 KiB, connections: {connections}"
            figures.throughput(name, result, min(journal_limit(limits), limits["tcp_bytes_per_second"]), "the journal's limit or loopback")
            figures.add(f"{name}, share of new files' limit", 100 * result["payload_bytes_per_second"] / limits["segments_bytes_per_second"], "%")
            if connections == 4:
                amplification(figures, name, before, broker.metrics())
                for turn in ("reading from segments, every record checked", "the same again"):
                    figures.throughput(turn, broker.bench("consume", "--from", "beginning"), limits["disk_read_bytes_per_second"], "direct reads")
    with machine.broker("--memory", "1G") as broker:
        before = broker.metrics()
        result = broker.bench("produce", "--rate", "max", "--size", "1KiB", "--batch-bytes", "64KiB", "--partitions", "8", "--connections", "2", "--duration", "10s", "--warmup", "1s")
        figures.throughput("largest produce, batches of 64 KiB", result)
        rates = [point["payload_bytes"] for point in result["points"] if not point["warmup"]][:-1]
        figures.add("largest produce, batches of 64 KiB: slowest second by fastest", min(rates) / max(rates), "")
        figures.add("largest produce, batches of 64 KiB: longest wait", result["latency"]["max_ns"] / MS, "ms")
        amplification(figures, "largest produce, batches of 64 KiB", before, broker.metrics())


def cache(machine, figures, options):
    """Reading what is in memory."""
    with machine.broker("--memory", "6G") as broker:
        broker.bench("produce", "--rate", "max", "--size", "1KiB", "--batch-bytes", "64KiB", "--partitions", "8", "--connections", "2", "--duration", "1500ms", "--warmup", "0s")
        loopback = machine.limits()["tcp_bytes_per_second"]
        for name, how in (("1 connection", ["--connections", "1"]), ("2 connections", ["--connections", "2"]), ("4 connections", ["--connections", "4"]), ("4 consumers", ["--consumers", "4"])):
            result = broker.bench("consume", "--from", "beginning", "--no-verify", *how)
            figures.throughput(f"reading from the cache, {name}", result, loopback, "loopback")


def million(machine, figures, options):
    """1,000,000 records of 100 B a second, beside a server that keeps nothing, and the largest rate that is kept up."""
    load = ["--size", "100", "--partitions", "16", "--topic", "m"]
    with Discard(machine) as discard:
        figures.latency("1 M/s of 100 B, a server that keeps nothing", discard.bench("produce", "--rate", "1M", *load, "--duration", "5s", "--warmup", "2s"))
    with machine.broker("--memory", "1G") as broker:
        before = broker.metrics()
        figures.latency("1 M/s of 100 B", broker.bench("produce", "--rate", "1M", *load, "--duration", "5s", "--warmup", "2s"))
        figures.add("1 M/s of 100 B: a commit, mean", mean_commit_ms(before, broker.metrics()), "ms")
        kept_up = 1.0
        for rate in (1.5, 2.0, 2.5, 3.0, 3.5, 4.0):
            result = broker.bench("produce", "--rate", f"{rate}M", *load, "--duration", "4s", "--warmup", "1s")
            # What waits at the end is less than what comes in a tenth of a second.
            if result["final_backlog"] > rate * 1e5 or result["records_per_second"] < 0.99e6 * rate:
                break
            kept_up = rate
        figures.add("the largest rate of 100 B that is kept up, in steps of 0.5 M/s", kept_up, "M/s")


def tail(machine, figures, options):
    """A producer and a consumer at 2,000/s, alone and beside a consumer of everything that was written before, which gives way to them on their core."""
    seconds = str(options.tail_fill_seconds) + "s"
    paced = ["--rate", "2k", "--size", "1KiB", "--linger-ms", "0", "--topic", "tail", "--partitions", "1", "--producers", "1", "--consumers", "1", "--duration", "5s", "--warmup", "1s"]
    scan = ["--topic", "scan", "--from", "beginning"]
    with machine.broker("--memory", "1G") as broker:
        filled = broker.bench("produce", "--topic", "scan", "--rate", "max", "--size", "1KiB", "--batch-bytes", "256KiB", "--partitions", "8", "--connections", "4", "--duration", seconds, "--warmup", "0s")
        figures.add("what is scanned", filled["payload_bytes"] / GB, "GB")
        limits = machine.limits("2k")
        for name, key in (("", "synced_record"), (", beside a reader", "beside_reads")):
            for quantile in ("p50", "p99"):
                figures.add(f"limits: the barest program at 2,000/s{name}: {quantile}", limits[f"{key}_{quantile}_ns"] / MS, "ms")
        figures.add("limits: that reader", limits["reads_beside_bytes_per_second"] / GB, "GB/s")
        alone = broker.bench("produce", *paced)
        figures.latency("a tail of 2,000/s alone", alone)
        figures.throughput("a scan alone", broker.bench("consume", *scan), limits["disk_read_bytes_per_second"], "direct reads")
        scanning = broker.bench_aside("consume", *scan)
        try:
            time.sleep(0.5)
            before = broker.metrics()
            beside = broker.bench("produce", *paced)
            after = broker.metrics()
            was_over = scanning.poll() is not None
        finally:
            scanned = finished(scanning)
        if was_over:
            raise RuntimeError("the scan was over before the tail: give more --tail-fill-seconds")
        figures.latency("the tail beside a scan", beside)
        figures.add("the tail beside a scan: p99 by that alone", beside["latency"]["p99_ns"] / alone["latency"]["p99_ns"], "")
        figures.add("the tail beside a scan: a commit, mean", mean_commit_ms(before, after), "ms")
        figures.throughput("the scan beside the tail", scanned, limits["disk_read_bytes_per_second"], "direct reads")


def partitions(machine, figures, options):
    """Many partitions that are all written to, and the start after kill -9 with them."""
    with machine.broker("--memory", "1G") as broker:
        load = ["--topic", "many", "--partitions", "10000", "--size", "1KiB"]
        result = broker.bench("produce", *load, "--rate", "50k", "--duration", "15s", "--warmup", "0s")
        figures.latency("10,000 partitions, 50,000/s", result)
        rates = [point["payload_bytes"] for point in result["points"]][1:-1]
        figures.add("10,000 partitions, 50,000/s: slowest second by fastest", min(rates) / max(rates), "")
        figures.add("start after kill -9 under that", broker.restart_after_kill(), "s")


def placement(machine, figures, options):
    """Two shards: a partition on the shard of the producer's connection, on the other one, and 16 on both."""
    cores = f"{machine.broker_cores.split('-')[0]}-{machine.client_cores.split('-')[-1]}"
    wanted = {"own": 2, "other": 2, "mixed": 2}
    with machine.broker("--memory", "1G", "--set", "connection_moves=false", cores=cores) as broker:
        for attempt in range(24):
            if not any(wanted.values()):
                break
            mixed = not (wanted["own"] or wanted["other"])
            topic = ["--topic", f"p{attempt}", "--partitions", "16" if mixed else "1"]
            before = broker.metrics()
            paced = broker.bench("produce", *topic, "--rate", "5k", "--size", "1KiB", "--linger-ms", "0", "--duration", "3s", "--warmup", "1s")
            after = broker.metrics()
            where = "mixed" if mixed else place(before, after)
            if not wanted[where]:
                continue
            wanted[where] -= 1
            figures.latency(f"partition on the connection's shard: {where}, 5,000/s of 1 KiB", paced)
            woken = after["broker_mesh_wakes_sent_total"] - before["broker_mesh_wakes_sent_total"]
            figures.add(f"partition on the connection's shard: {where}, wake-ups across cores for each record", woken / (4 * 5000), "")
        wanted = {"own": 2, "other": 2, "mixed": 2}
        for attempt in range(24):
            if not any(wanted.values()):
                break
            mixed = not (wanted["own"] or wanted["other"])
            topic = ["--topic", f"t{attempt}", "--partitions", "16" if mixed else "1"]
            before = broker.metrics()
            full = broker.bench("produce", *topic, "--rate", "max", "--size", "1KiB", "--batch-bytes", "64KiB", "--duration", "3s", "--warmup", "1s")
            where = "mixed" if mixed else place(before, broker.metrics())
            if wanted[where]:
                wanted[where] -= 1
                figures.throughput(f"partition on the connection's shard: {where}, largest rate in batches of 64 KiB", full)


def kafka(machine, figures, options):
    """This broker, which syncs before it acknowledges, beside Apache Kafka with its defaults, which does not; both after each load has been on for some seconds."""
    loads = {
        "1 KiB at 1,000/s": ["--topic", "one", "--rate", "1k", "--size", "1KiB", "--linger-ms", "0", "--partitions", "1"],
        "1 KiB at 1,000/s, 100 partitions": ["--topic", "hundred", "--rate", "1k", "--size", "1KiB", "--linger-ms", "0", "--partitions", "100"],
        "300,000/s of 100 B": ["--topic", "small", "--rate", "300k", "--size", "100", "--partitions", "16"],
        "1 M/s of 100 B": ["--topic", "million", "--rate", "1M", "--size", "100", "--partitions", "16"],
    }
    for name, serve in (("Apache Kafka", lambda: Kafka(machine, options.kafka_jars)), ("this broker", lambda: machine.broker("--memory", "1G"))):
        with serve() as served:
            for arguments in loads.values():
                served.bench("produce", *arguments, "--duration", "6s", "--warmup", "0s")
            for load, arguments in loads.items():
                figures.latency(f"{load}: {name}", served.bench("produce", *arguments, "--duration", "5s", "--warmup", "2s"))


def place(before, after):
    """Whether most requests' calls were to the shard that had received them."""
    other = after["broker_mesh_calls_total"] - before["broker_mesh_calls_total"]
    own = after["broker_mesh_local_calls_total"] - before["broker_mesh_local_calls_total"]
    return "own" if own > other else "other"


SECTIONS = {section.__name__: section for section in (machine_limits, latency, throughput, cache, million, tail, partitions, placement, kafka)}
# Not measured unless asked for: it needs more than this project.
USUAL = [name for name in SECTIONS if name != "kafka"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="; ".join(f"{name}: {section.__doc__}" for name, section in SECTIONS.items()))
    parser.add_argument("--bin", required=True, help="folder of the binaries broker and bench")
    parser.add_argument("--dir", default=".", help="folder on the disk to be measured; everything in it is removed at the end [default: .]")
    parser.add_argument("--turns", type=int, default=3, help="how often everything is measured [default: 3]")
    parser.add_argument("--broker-cores", default="0", help="[default: 0]")
    parser.add_argument("--client-cores", default="1", help="[default: 1]")
    parser.add_argument("--only", default=",".join(USUAL), help=f"sections, with commas between them; there is also kafka [default: {','.join(USUAL)}]")
    parser.add_argument("--kafka-jars", help="folder of the jars of Apache Kafka, for the section kafka")
    parser.add_argument("--tail-fill-seconds", type=int, default=10, help="how long data for the scan is written [default: 10]")
    parser.add_argument("--json", help="file for all values")
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(SECTIONS)
    if unknown:
        parser.error(f"--only: there is no section {', '.join(sorted(unknown))}")
    figures, machine = Figures(), Machine(options.bin, options.dir, options.broker_cores, options.client_cores)
    try:
        for turn in range(options.turns):
            for name in options.only.split(","):
                print(f"{time.strftime('%H:%M:%S')} turn {turn + 1} of {options.turns}: {name}", file=sys.stderr, flush=True)
                SECTIONS[name](machine, figures, options)
    finally:
        machine.remove()
        print(figures.table())
        if options.json:
            with open(options.json, "w") as file:
                json.dump({name: {"unit": figures.units[name], "values": values} for name, values in figures.values.items()}, file, indent=1)


main()
