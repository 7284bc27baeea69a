"""Runs the example programs as a person would. usage: examples.py PYTHON_COMMAND GO_COMMAND"""

import collections
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid

from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP = os.environ["BOOTSTRAP"]
RECORDS = 300
SECONDS = 120


def create_topic(partitions):
    name = f"examples-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(name, partitions)])[name].result(SECONDS)
    return name


def lines(first, count):
    return [f"key-{number % 17}:value {number}" for number in range(first, first + count)]


def produce(program, topic, written):
    subprocess.run([*program, "produce", topic], input="".join(f"{line}\n" for line in written), text=True, check=True, timeout=SECONDS)


def consume(program, topic, group, count):
    done = subprocess.run([*program, "consume", topic, group, str(count)], stdout=subprocess.PIPE, text=True, check=True, timeout=SECONDS)
    return parse(done.stdout)


def parse(output):
    """Position and line of each record that a program has printed."""
    records = []
    for line in output.splitlines():
        partition, offset, key, value = line.split(" ", 3)
        records.append(((int(partition), int(offset)), f"{key}:{value}"))
    return records


def same(records, written):
    """Whether these are exactly the records that were written, each key's in order."""
    def by_key(texts):
        keys = collections.defaultdict(list)
        for text in texts:
            keys[text.split(":", 1)[0]].append(text)
        return keys
    return len({position for position, _ in records}) == len(records) and by_key(text for _, text in records) == by_key(written)


def reads_what_was_written(writer, reader):
    topic = create_topic(3)
    produce(writer, topic, lines(0, RECORDS))
    assert same(consume(reader, topic, "all", RECORDS), lines(0, RECORDS))


def goes_on_where_it_stopped(program):
    topic = create_topic(3)
    produce(program, topic, lines(0, RECORDS))
    first = consume(program, topic, "resume", RECORDS // 3)
    second = consume(program, topic, "resume", RECORDS - RECORDS // 3)
    assert len(first) == RECORDS // 3 and same(first + second, lines(0, RECORDS))


def shares_a_group(programs):
    """Two members read while a third program writes; one leaves with Ctrl-C; nothing is lost, nothing that was committed comes twice."""
    topic, group = create_topic(6), f"shared-{uuid.uuid4().hex[:8]}"
    members = []
    for program in programs:
        members.append(subprocess.Popen([*program, "consume", topic, group], stdout=subprocess.PIPE, text=True))
    outputs = [[] for _ in members]
    try:
        written = []
        deadline = time.monotonic() + SECONDS
        # Both have partitions when both print; every key goes to one partition, so many keys are needed.
        streams = [os.set_blocking(member.stdout.fileno(), False) or member.stdout for member in members]
        while not all(outputs):
            batch = [f"key-{number}:value {number}" for number in range(len(written), len(written) + 50)]
            produce(programs[0], topic, batch)
            written += batch
            read_available(streams, outputs)
            assert time.monotonic() < deadline, "one of the members reads nothing"
        members[0].send_signal(signal.SIGINT)
        assert members[0].wait(SECONDS) == 0, "Ctrl-C is no failure"
        batch = [f"key-{number}:value {number}" for number in range(len(written), len(written) + 50)]
        produce(programs[0], topic, batch)
        written += batch
        while sum(map(len, outputs)) < len(written):
            read_available(streams, outputs)
            assert time.monotonic() < deadline, f"{sum(map(len, outputs))} of {len(written)} records"
            time.sleep(0.05)
        members[1].send_signal(signal.SIGINT)
        assert members[1].wait(SECONDS) == 0, "Ctrl-C is no failure"
        read_available(streams, outputs)
        assert same(parse("\n".join(outputs[0] + outputs[1])), written)
    finally:
        for member in members:
            member.kill()
            member.wait()


def read_available(streams, outputs, rests={}):
    """Takes the whole lines that have been printed so far."""
    for number, stream in enumerate(streams):
        text = rests.get(stream, "")
        while True:
            try:
                piece = os.read(stream.fileno(), 65536)
            except BlockingIOError:
                break
            if not piece:
                break
            text += piece.decode()
        *whole, rests[stream] = text.split("\n")
        outputs[number] += whole


def main():
    python, go = (shlex.split(command) for command in sys.argv[1:3])
    checks = [
        ("Python reads what Go has written", lambda: reads_what_was_written(go, python)),
        ("Go reads what Python has written", lambda: reads_what_was_written(python, go)),
        ("Python goes on where it stopped", lambda: goes_on_where_it_stopped(python)),
        ("Go goes on where it stopped", lambda: goes_on_where_it_stopped(go)),
        ("two Python members share a group", lambda: shares_a_group([python, python])),
        ("two Go members share a group", lambda: shares_a_group([go, go])),
    ]
    failed = 0
    for name, check in checks:
        try:
            check()
            print(f"ok      {name}", flush=True)
        except (AssertionError, subprocess.SubprocessError) as error:
            failed += 1
            print(f"FAILED  {name}: {error}", flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
