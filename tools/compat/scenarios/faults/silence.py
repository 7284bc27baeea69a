"""How long partitions acknowledge nothing."""

import threading
import time

PERIOD_SECONDS = 0.01


class Silence(threading.Thread):
    """Looks at the producers' logs all the time."""

    def __init__(self, logs, partitions):
        super().__init__(daemon=True)
        self.read = {log.path: 0 for log in logs.values()}
        self.lock, self.last, self.longest = threading.Lock(), [0.0] * partitions, [0.0] * partitions
        self.begin()
        self.start()

    def begin(self):
        """Counts from now on."""
        with self.lock:
            now = time.monotonic()
            self.last, self.longest = [now] * len(self.last), [0.0] * len(self.last)

    def end(self):
        """The longest silence of each partition, in seconds, since it was counted from; one that lasts counts."""
        with self.lock:
            now = time.monotonic()
            return [max(longest, now - last) for last, longest in zip(self.last, self.longest)]

    def all_heard_since(self, since):
        """Says, when it is called, whether every partition was acknowledged since then."""
        return lambda: min(self.last) > since

    def run(self):
        while True:
            heard = self._heard()
            with self.lock:
                now = time.monotonic()
                for partition in heard:
                    self.longest[partition] = max(self.longest[partition], now - self.last[partition])
                    self.last[partition] = now
            time.sleep(PERIOD_SECONDS)

    def _heard(self):
        heard = set()
        for path in self.read:
            with open(path) as file:
                file.seek(self.read[path])
                text = file.read()
            text = text[:text.rfind("\n") + 1]
            self.read[path] += len(text)
            heard.update(int(line.split(" ", 1)[0]) for line in text.splitlines())
        return heard
