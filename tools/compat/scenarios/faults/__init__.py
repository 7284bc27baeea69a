"""Real faults for a cluster of real processes: what can go wrong (catalogue), what it happens to (network, node), and what has to hold all the same (groups, silence)."""
