"""Exit status 0 when the broker at HOST:PORT answers ApiVersions, 1 when it does not yet."""

import socket
import struct
import sys


def answers(bootstrap, timeout=2.0):
    host, port = bootstrap.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=timeout) as connection:
            request = struct.pack(">hhih", 18, 0, 7, 5) + b"ready"
            connection.sendall(struct.pack(">i", len(request)) + request)
            connection.settimeout(timeout)
            head = b""
            while len(head) < 10:
                piece = connection.recv(10 - len(head))
                if not piece:
                    return False
                head += piece
            _, correlation, error = struct.unpack(">iih", head)
            return correlation == 7 and error == 0
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if answers(sys.argv[1]) else 1)
