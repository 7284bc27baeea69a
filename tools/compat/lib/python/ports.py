"""A free port below those that the kernel gives to outgoing connections.

A client that keeps trying to connect to a port of that range while nobody listens there ends up, by and by, connected to itself,
and then a restarted broker cannot listen. usage: ports.py
"""

import random
import socket


def free():
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


if __name__ == "__main__":
    print(free())
