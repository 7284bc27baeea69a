"""A switch with a port for each node, all in network namespaces: the nodes' own, and for the switch and the clients that of this process.

The switch drops what it is told to drop (nftables on the bridge), and a port can get a slow cable (tools/faults). The process has to be in namespaces of its own,
of which nothing is left when it ends: see `real-faults`.
"""

import os
import subprocess

CLIENTS = "10.77.0.254"
RULES = """
table bridge faults {
  chain drops { }
  chain forward { type filter hook forward priority 0; jump drops; }
  chain input { type filter hook input priority 0; jump drops; }
  chain output { type filter hook output priority 0; jump drops; }
}
"""


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}`: {done.stderr.strip()}")


def address(node):
    return f"10.77.0.{node}"


def inside(node):
    """Before a command: in the namespace of this node."""
    return ["nsenter", f"--net=/run/netns/node{node}", "--"]


class Network:
    def __init__(self, nodes):
        self.nodes, self.cables = list(nodes), {}
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "none", "/run/netns")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "switch", "type", "bridge")
        run("ip", "addr", "add", f"{CLIENTS}/24", "dev", "switch")
        run("ip", "link", "set", "switch", "up")
        for node in self.nodes:
            run("ip", "netns", "add", f"node{node}")
            run("ip", "link", "add", f"port{node}", "type", "veth", "peer", "name", "eth0", "netns", f"node{node}")
            run("ip", "link", "set", f"port{node}", "master", "switch", "up")
            run(*inside(node), "ip", "addr", "add", f"{address(node)}/24", "dev", "eth0")
            run(*inside(node), "ip", "link", "set", "eth0", "up")
            run(*inside(node), "ip", "link", "set", "lo", "up")
        run("nft", "-f", "-", text=RULES)

    def drop(self, sender, receiver, percent=100):
        """From now on the switch drops packets from one address to another."""
        chance = [] if percent == 100 else ["numgen", "random", "mod", "100", "<", str(percent)]
        run("nft", "add", "rule", "bridge", "faults", "drops", "ip", "saddr", sender, "ip", "daddr", receiver, *chance, "drop")

    def cut(self, one, other):
        self.drop(one, other)
        self.drop(other, one)

    def drop_nothing(self):
        run("nft", "flush", "chain", "bridge", "faults", "drops")

    def slow_down(self, node, milliseconds):
        """Everything to and from the node takes so long, each way. What was under way in between is lost once."""
        port, end, middle = f"port{node}", f"end{node}", f"middle{node}"
        run("ip", "link", "add", end, "type", "veth", "peer", "name", middle)
        run("ip", "link", "set", middle, "up")
        command = [os.path.join(os.environ["FAULTS_BIN"], "slow-cable"), port, middle, "--ms", str(milliseconds)]
        self.cables[node] = subprocess.Popen(command, stdin=subprocess.PIPE)
        run("ip", "link", "set", port, "nomaster")
        run("ip", "link", "set", end, "master", "switch", "up")

    def speed_up(self, node):
        run("ip", "link", "del", f"end{node}")
        run("ip", "link", "set", f"port{node}", "master", "switch")
        cable = self.cables.pop(node)
        cable.stdin.close()
        if cable.wait(30) != 0:
            raise RuntimeError(f"the slow cable of node {node} has ended with {cable.returncode}")
