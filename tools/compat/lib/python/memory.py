"""How much memory a broker takes, and how many descriptors a scenario may."""

import contextlib
import resource
import threading
import time

SAMPLE_SECONDS = 0.05


class Sampler(threading.Thread):
    """The broker's largest resident set."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.broker, self.peak = broker, 0

    def run(self):
        with contextlib.suppress(OSError, StopIteration):
            while self.broker.alive():
                self.peak = max(self.peak, self.broker.rss_bytes())
                time.sleep(SAMPLE_SECONDS)


def bytes_of(text):
    """Of a size as the broker takes it: 256M."""
    return int(text[:-1]) << {"K": 10, "M": 20, "G": 30}[text[-1]]


def most_descriptors():
    """How many this process and those that it starts may have, which is as many as the system lets them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20
