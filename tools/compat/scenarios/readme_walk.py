"""The commands of README.md, copied line by line into a shell, do what README says. usage: readme_walk.py REPOSITORY

The first command starts the broker; the commands under "Produce and consume" follow in one shell. Nothing of them is changed:
they use the ports that README uses, in a network of their own where the kernel allows one, and data goes to a temporary folder
through a variable of the environment.
"""

import ctypes
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import ready

BOOTSTRAP = "127.0.0.1:9092"
PORTS = [9092, 9644]
START_SECONDS = 300
STOP_SECONDS = 60
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
MARK = "@@readme-walk"

# What the output of a line shows; each pattern is for the first line of README that it fits.
EXPECTED = [
    (r"kcat .* -C ", r"^hello$"),
    (r"brokerctl topic create orders", r"^orders: created$"),
    (r"brokerctl topic list", r"^orders +3 "),
    (r"brokerctl topic describe orders", r"^ +2 +\d+ .* 0 +0 "),
    (r"brokerctl consume orders --group billing --count 60", r"^(\d+\n){60}$"),
    (r"brokerctl group describe billing", r"^group billing .* lag 40$"),
]


def code_blocks(text):
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(readme):
    """The command that starts the broker, and the lines of the walk."""
    start = code_blocks(readme)[0].splitlines()[0]
    section = re.search(r"^## Produce and consume\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL).group(1)
    return start, [line for block in code_blocks(section) for line in block.splitlines() if line.strip()]


def own_network():
    """Takes this process and its children into a network where all ports are free."""
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    if unshare(CLONE_NEWNET) != 0 and unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(s, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP))
    return True


def check_ports():
    for port in PORTS:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError as error:
                sys.exit(f"port {port}, which README uses, is taken, and the kernel gives us no network of our own: {error}")


def start_broker(command, repository, folder):
    environment = {**os.environ, "BROKER_DATA_DIR": os.path.join(folder, "data")}
    environment.pop("BROKER_TMP", None)
    log = open(os.path.join(folder, "log"), "wb")
    process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=repository, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + START_SECONDS
    while not ready.answers(BOOTSTRAP):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            sys.exit(f"'{command}' did not start a broker:\n" + open(log.name).read()[-3000:])
        time.sleep(0.05)
    return process


def run(lines, repository):
    """Exit code and output of each line, all of them run by one shell."""
    script = "".join(f"echo; echo '{MARK}'\n{line}\necho; echo \"{MARK} $?\"\n" for line in lines)
    done = subprocess.run(["bash"], input=script, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=START_SECONDS)
    return [(int(code), output) for output, code in re.findall(rf"{MARK}\n(.*?)\n{MARK} (\d+)\n", done.stdout, re.DOTALL)]


def main():
    repository = sys.argv[1]
    with open(os.path.join(repository, "README.md")) as readme:
        start, lines = commands(readme.read())
    if not own_network():
        check_ports()
    failures = []
    with tempfile.TemporaryDirectory(prefix="readme.", dir=os.environ.get("BROKER_TMP")) as folder:
        broker = start_broker(start, repository, folder)
        try:
            print(f"$ {start}")
            results = run(lines, repository)
        finally:
            # What Ctrl-C sends.
            broker.send_signal(signal.SIGINT)
            code = broker.wait(STOP_SECONDS)
    if code != 0:
        failures.append(f"Ctrl-C ended the broker with {code}")
    if len(results) != len(lines):
        failures.append(f"the shell ended in line {len(results) + 1} of {len(lines)}")
    wanted = list(EXPECTED)
    for line, (code, output) in zip(lines, results):
        print(f"$ {line}\n{output.rstrip()}")
        if code != 0:
            failures.append(f"'{line}' ended with {code}")
        # The last newline is what the script has put before its mark.
        for number, (command, pattern) in enumerate(wanted):
            if re.search(command, line):
                if not re.search(pattern, output, re.MULTILINE if "{" not in pattern else 0):
                    failures.append(f"'{line}' does not show {pattern}")
                del wanted[number]
                break
    failures += [f"no line of README fits {command}" for command, _ in wanted]
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{len(lines) + 1 - len(failures)} of {len(lines) + 1} commands passed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
