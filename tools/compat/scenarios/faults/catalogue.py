"""What can go wrong. Each fault is a context: on entering it happens and says to whom, on leaving it is over.

`HOLD` says how many seconds each lasts: some are over at once, some have to be longer than a broker's session.
"""

from contextlib import contextmanager

from .network import CLIENTS, address

WHILE_FENCED = (10, 14)
SHORT = (0.2, 6)


@contextmanager
def kill(cluster, rng):
    node = cluster.pick(rng)
    node.kill()
    yield f"node {node.number}"
    cluster.restart([node.number])


def survivors(rng):
    """Nothing of what was not synced survives, or some of it."""
    return rng.choice([None, rng.randrange(1 << 60)])


@contextmanager
def power_loss(cluster, rng):
    node = cluster.pick(rng)
    node.power_off()
    lost = node.power_on(survivors(rng))
    yield f"node {node.number}, {lost}"
    cluster.restart([node.number])


@contextmanager
def power_loss_of_all(cluster, rng):
    lost = power_off_all(cluster, lambda: survivors(rng))
    yield "; ".join(lost)
    cluster.restart(list(cluster.brokers))


def power_off_all(cluster, survive):
    for node in cluster.brokers.values():
        node.power_off()
    return [node.power_on(survive()) for node in cluster.brokers.values()]


@contextmanager
def suspension(cluster, rng):
    node = cluster.pick(rng)
    node.suspend()
    try:
        yield f"node {node.number}"
    finally:
        node.resume()


@contextmanager
def drops(cluster, what):
    try:
        yield what
    finally:
        cluster.network.drop_nothing()


def cut_off(cluster, rng):
    """From everybody."""
    node = cluster.pick(rng)
    for other in [CLIENTS, *map(address, cluster.others(node))]:
        cluster.network.cut(address(node.number), other)
    return drops(cluster, f"node {node.number}")


def cut_off_from_brokers(cluster, rng):
    """Clients still reach it, so it might tell them things that are not true any more."""
    node = cluster.pick(rng)
    for other in cluster.others(node):
        cluster.network.cut(address(node.number), address(other))
    return drops(cluster, f"node {node.number}")


def cut_between_two(cluster, rng):
    """Each of them reaches the third."""
    one, other = rng.sample(sorted(cluster.brokers), 2)
    cluster.network.cut(address(one), address(other))
    return drops(cluster, f"nodes {one} and {other}")


def mute(cluster, rng):
    """The others do not hear it, but it hears them."""
    node = cluster.pick(rng)
    for other in cluster.others(node):
        cluster.network.drop(address(node.number), address(other))
    return drops(cluster, f"node {node.number}")


def deaf(cluster, rng):
    """It does not hear the others, but they hear it."""
    node = cluster.pick(rng)
    for other in cluster.others(node):
        cluster.network.drop(address(other), address(node.number))
    return drops(cluster, f"node {node.number}")


def loss(cluster, _rng):
    """5 % of all packets, to everybody from everybody."""
    everybody = [CLIENTS, *map(address, cluster.brokers)]
    for sender in everybody:
        for receiver in everybody:
            if sender != receiver:
                cluster.network.drop(sender, receiver, percent=5)
    return drops(cluster, "5 %")


@contextmanager
def delay(cluster, rng):
    """100 ms each way, for one node's packets or for everybody's."""
    slow = rng.choice([[cluster.pick(rng).number], sorted(cluster.brokers)])
    for node in slow:
        cluster.network.slow_down(node, 100)
    try:
        yield f"nodes {slow}"
    finally:
        for node in slow:
            cluster.network.speed_up(node)


@contextmanager
def full_disk(cluster, rng):
    node = cluster.pick(rng)
    room = node.disk.tell(f"room {rng.choice([0, 64 << 10, 1 << 20])}")
    try:
        yield f"node {node.number}, {room}"
    finally:
        node.disk.tell("room all")


@contextmanager
def clock_jump(cluster, rng):
    """Backwards by less than an hour: a record from further in the future would be refused (message.timestamp.after.max.ms)."""
    node = cluster.pick(rng)
    seconds = rng.choice([-3000, -60, 60, 3600, 20 * 3600])
    node.clock.jump(seconds)
    try:
        yield f"node {node.number} by {seconds} s"
    finally:
        node.clock.jump(0)


HOLD = {
    kill: SHORT,
    power_loss: SHORT,
    power_loss_of_all: (0, 1),
    suspension: (10, 10),
    cut_off: WHILE_FENCED,
    cut_off_from_brokers: WHILE_FENCED,
    cut_between_two: WHILE_FENCED,
    mute: WHILE_FENCED,
    deaf: WHILE_FENCED,
    loss: (8, 10),
    delay: (8, 10),
    full_disk: WHILE_FENCED,
    clock_jump: (3, 6),
}


def name_of(fault):
    return fault.__name__.replace("_", " ")


def by_name(name):
    return next(fault for fault in HOLD if name_of(fault) == name.replace("-", " "))


def each_once(rng):
    """Every fault once, in an order of chance."""
    return rng.sample(list(HOLD), len(HOLD))


def drawn(rng, count):
    """Every fault about equally often, as in a deck of cards that is shuffled when it is used up."""
    deck = []
    while len(deck) < count:
        deck += each_once(rng)
    return deck[:count]
