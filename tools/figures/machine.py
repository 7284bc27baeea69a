"""A broker on one core, `bench` on another, and what they say."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

READY_SECONDS = 60


class Machine:
    """The binaries, the cores and a folder on the disk that is measured."""

    def __init__(self, bin_dir, folder, broker_cores, client_cores):
        self.bin_dir, self.broker_cores, self.client_cores = bin_dir, broker_cores, client_cores
        self.folder = tempfile.mkdtemp(prefix="figures.", dir=folder)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def bench_command(self, command, *arguments):
        return [os.path.join(self.bin_dir, "bench"), command, *arguments, "--json"]

    def bench(self, command, *arguments):
        """The result of a run; an exit status other than 0, as for a lost record, ends the measurement."""
        return finished(start(self.bench_command(command, *arguments)))

    def limits(self, rate="1k"):
        cores = f"{self.broker_cores.split('-')[0]},{self.client_cores.split('-')[-1]}"
        return self.bench("limits", "--limits-dir", self.folder, "--limits-rate", rate, "--limits-cores", cores)

    def broker(self, *arguments, cores=None):
        return Broker(self, cores or self.broker_cores, *arguments)


def start(command, **options):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def settle():
    """Waits for what a file system does after files were removed: it would be measured with what comes next."""
    os.sync()
    time.sleep(2)


def give_way():
    """This process runs when its core has nothing else to do."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def finished(process):
    out, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(process.args)}: exit status {process.returncode}: {errors[-2000:]}")
    return json.loads(out)


class Served:
    """Something that listens, and the clients that it is measured with."""

    def __init__(self, machine, process, bootstrap):
        self.machine, self.process, self.bootstrap = machine, process, bootstrap

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def command(self, command, *arguments, cores=None):
        cores = cores or self.machine.client_cores
        common = ["--bootstrap", self.bootstrap, "--cores", cores, "--broker-pid", str(self.process.pid), "--quiet"]
        return self.machine.bench_command(command, *common, *arguments)

    def bench(self, command, *arguments, cores=None):
        return finished(start(self.command(command, *arguments, cores=cores)))

    def bench_aside(self, command, *arguments):
        """Begins a run that gives way to others on its cores, and does not wait for it; `finished` does."""
        return start(self.command(command, *arguments), preexec_fn=give_way)


class Broker(Served):
    """A broker with an empty data directory, which goes with it."""

    def __init__(self, machine, cores, *arguments):
        self.folder = tempfile.mkdtemp(prefix="broker.", dir=machine.folder)
        self.arguments = [
            os.path.join(machine.bin_dir, "broker"), "--cores", cores, "--data-dir", os.path.join(self.folder, "data"),
            "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ready-file", os.path.join(self.folder, "ready"), *arguments,
        ]
        super().__init__(machine, None, None)
        self.launch()

    def __exit__(self, *_):
        super().__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)
        settle()

    def launch(self):
        """Seconds until it is ready."""
        ready, log = os.path.join(self.folder, "ready"), os.path.join(self.folder, "log")
        if os.path.exists(ready):
            os.remove(ready)
        begun = time.monotonic()
        with open(log, "a") as output:
            self.process = subprocess.Popen(self.arguments, stdout=output, stderr=output)
        while not (os.path.exists(ready) and os.path.getsize(ready)):
            if self.process.poll() is not None or time.monotonic() > begun + READY_SECONDS:
                with open(log) as output:
                    raise RuntimeError(f"the broker is not ready: {output.read()[-2000:]}")
            time.sleep(0.01)
        took = time.monotonic() - begun
        with open(ready) as file:
            said = json.load(file)
        self.bootstrap, self.admin = said["kafka"], said["admin"]
        return took

    def restart_after_kill(self):
        """Seconds from the new process' start until it is ready, after kill -9 of the old one."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return self.launch()

    def metrics(self):
        """The values of all metrics, those of several shards added up."""
        values = {}
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if not line.startswith("#"):
                    name, value = line.rsplit(" ", 1)
                    name = name.split("{", 1)[0]
                    values[name] = values.get(name, 0.0) + float(value)
        return values


class Discard(Served):
    """`bench discard`: acknowledges and keeps nothing."""

    def __init__(self, machine):
        core = machine.broker_cores.split("-")[0]
        command = [os.path.join(machine.bin_dir, "bench"), "discard", "--listen", "127.0.0.1:0", "--core", core]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        super().__init__(machine, process, process.stdout.readline().split()[-1])
