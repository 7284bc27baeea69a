"""One client in a process of its own, told over pipes what to do: as a member of consumer groups it can then be killed, stopped
and restarted like any other process, and every client, whatever its language, goes through the same tests (groups.py, admin.py).

Commands come on standard input and answers go to standard output, one JSON object a line:

    {"id": 1, "do": VERB, ...}                     {"id": 1, "ok": RESULT} or {"id": 1, "error": CODE or null, "message": TEXT}

CODE is Kafka's number of the error, null when the client itself refuses. A member also tells what happens to it, with the time of
the system's clock in seconds:

    {"event": "assigned", "partitions": [...], "at": SECONDS}     partitions that it has got, or has now
    {"event": "revoked" or "lost", "partitions": [...], "at": SECONDS}
    {"event": "record", "partition": "t:0", "offset": 7}
    {"event": "error", "code": CODE or null, "message": TEXT}

A partition is "topic:number", offsets are {"t:0": [OFFSET, METADATA]}; OFFSET is null where nothing is committed.

    features                                       list of what this client has: verbs below, assignors, and
        exact: tells of revoked partitions before it gives them up      static: has group.instance.id
        static_consumer: and leaves it in the new protocol so that it can come back at once
        fenced: tells when another one has its group.instance.id        pattern: subscribes to a regular expression
        async: tells what becomes of an asynchronous commit             config_errors: and of replace_configs
        commit_any: commits for partitions that it does not own         none: reset "none"         auto_commit
    join group topics pattern session_ms heartbeat_ms instance assignor reset auto_commit
                                                   assignor: eager, cooperative, or consumer (the protocol of KIP-848)
    commit offsets how                             how: sync or async; answers when the broker has answered
    identity                                       [member id, generation]
    commit_as group member generation offsets      a request as it is told, of whoever it may be
    committed partitions                           offsets
    close                                          leaves the group
    create_topic topic partitions | create_partitions topic count | produce topic partition count
    list_groups                                    {GROUP: STATE or null}
    describe_group group (describe_consumer_group: of the new protocol too)
                                                   {"state", "members": [{"client_id", "host", "instance", "partitions"}]}
    group_offsets group | alter_offsets group offsets | delete_offsets group partitions | delete_group group
    configs topic                                  {NAME: VALUE}
    alter_configs topic set delete append          incremental
    replace_configs topic set                      what is not set gets its default
    delete_records topic partition before          the first offset left; before -1 means all records

Standard input that ends kills the agent without a farewell.
"""

import json
import os
import queue
import sys
import threading
import time

TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.05
REPLICATION_FACTOR = int(os.environ.get("REPLICATION_FACTOR", "1"))


class Refused(Exception):
    """An error that comes as data and not as the library's exception."""

    def __init__(self, code, message=""):
        super().__init__(f"error {code} {message}")
        self.code = code


def split(name):
    topic, number = name.rsplit(":", 1)
    return topic, int(number)


def known(offset, metadata):
    """What `committed` answers for a partition: a negative offset means none."""
    return [offset, metadata or ""] if offset is not None and offset >= 0 else [None, ""]


class Agent:
    """A verb is a method of its name. `poll` moves the consumer on and is called whenever no command waits."""

    features = ()

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.consumer = None
        self._lock = threading.Lock()

    def poll(self): raise NotImplementedError
    def error_code(self, error): raise NotImplementedError

    def say(self, **message):
        line = json.dumps(message)
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def event(self, kind, partitions=None, **more):
        if partitions is not None:
            more |= {"partitions": [f"{topic}:{partition}" for topic, partition in partitions], "at": time.time()}
        self.say(event=kind, **more)

    def trouble(self, error):
        self.event("error", code=self.error_code(error), message=f"{type(error).__name__}: {error}")

    def answer(self, number, verb, arguments):
        try:
            result = sorted(self.features) if verb == "features" else getattr(self, verb)(**arguments)
            self.say(id=number, ok=result)
        except Refused as error:
            self.say(id=number, error=error.code, message=str(error))
        except Exception as error:
            self.say(id=number, error=self.error_code(error), message=f"{type(error).__name__}: {error}")


def main(agent_type):
    commands = queue.Queue()

    def read():
        for line in sys.stdin:
            commands.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    agent = agent_type(os.environ["BOOTSTRAP"])
    while True:
        try:
            command = commands.get(block=agent.consumer is None)
        except queue.Empty:
            try:
                agent.poll()
            except Exception as error:
                agent.trouble(error)
        else:
            agent.answer(command.pop("id"), command.pop("do"), command)
