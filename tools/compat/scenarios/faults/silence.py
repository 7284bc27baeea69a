"""How long partitions acknowledge nothing."""

import threading
import time

PERIOD_SECONDS = 0.01


class Silence(threading.Thread):
    """Looks at the producers' logs all the time. Each producer is told about each partition, so one of them alone that hears nothing is noticed too."""

    def __init__(self, logs, partitions):
        super().__init__(daemon=True)
        self.logs, self.partitions = {name: [log.path, 0] for name, log in logs.items()}, partitions
        self.lock, self.last, self.longest, self.stopping = threading.Lock(), {}, {}, threading.Event()
        self.begin()
        self.start()

    def begin(self):
        """Counts from now on."""
        with self.lock:
            now = time.monotonic()
            self.last = {(name, partition): now for name in self.logs for partition in range(self.partitions)}
            self.longest = dict.fromkeys(self.last, 0.0)

    def end(self):
        """The longest silence of each partition, in seconds, since it was counted from; one that lasts counts."""
        with self.lock:
            now = time.monotonic()
            silences = {key: max(self.longest[key], now - last) for key, last in self.last.items()}
        return [min(silences[name, partition] for name in self.logs) for partition in range(self.partitions)]

    def unheard_since(self, since):
        """Which producers have not heard of which partitions since then."""
        with self.lock:
            return [key for key, last in self.last.items() if last < since]

    def stop(self):
        self.stopping.set()
        self.join()

    def run(self):
        while not self.stopping.wait(PERIOD_SECONDS):
            heard = self._heard()
            with self.lock:
                now = time.monotonic()
                for key in heard:
                    self.longest[key] = max(self.longest[key], now - self.last[key])
                    self.last[key] = now

    def _heard(self):
        heard = set()
        for name, place in self.logs.items():
            with open(place[0]) as file:
                file.seek(place[1])
                text = file.read()
            text = text[:text.rfind("\n") + 1]
            place[1] += len(text)
            heard.update((name, int(line.split(" ", 1)[0])) for line in text.splitlines())
        return heard
