//! Connections between brokers. A connection delivers in order and loses nothing until it breaks; when it does, what was under way is lost from some message on,
//! and what is not may arrive after the next connection has been set up.

use std::collections::{BTreeMap, BTreeSet};

use coord::types::BrokerId;

use super::random::Random;

/// Where a message between brokers belongs: its connection, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the connection between the two.
    pub connection: u64,
    /// Counts the messages of one direction.
    pub number: u64,
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, Default)]
struct Direction {
    sent: u64,
    delivered: u64,
    last_arrival_us: u64,
}

/// What is left of a broken connection.
#[derive(Debug, Clone, Copy)]
struct Remains {
    connection: u64,
    /// Messages up to these still arrive, by direction.
    arrive: [u64; 2],
}

#[derive(Debug, Default)]
struct Link {
    connection: u64,
    is_up: bool,
    directions: [Direction; 2],
    remains: Vec<Remains>,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It arrives then, unless the connection breaks.
    Arrives(u64, Place),
    /// There is no connection.
    Lost,
    /// It cannot get there: the connection will be given up.
    Stuck,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<(BrokerId, BrokerId), Link>,
    /// Directions in which nothing gets through.
    blocked: BTreeSet<(BrokerId, BrokerId)>,
    /// A message takes at most so much longer than the shortest time. µs.
    jitter_us: u64,
}

/// The shortest time that a message takes. µs.
const LATENCY_US: u64 = 150;

fn pair(a: BrokerId, b: BrokerId) -> (BrokerId, BrokerId) {
    (a.min(b), a.max(b))
}

fn direction(from: BrokerId, to: BrokerId) -> usize {
    usize::from(from > to)
}

impl Network {
    /// A network in which a message takes at most so much longer than the shortest time, as a rule. µs.
    pub fn new(jitter_us: u64) -> Self {
        Network { jitter_us, ..Network::default() }
    }

    /// How long a message takes on its own.
    pub fn delay_us(&self, random: &mut Random) -> u64 {
        // Most are quick, some are not.
        let most = if random.one_in(8) { self.jitter_us * 8 } else { self.jitter_us };
        LATENCY_US + random.below(most + 1)
    }

    fn is_blocked(&self, from: BrokerId, to: BrokerId) -> bool {
        self.blocked.contains(&(from, to))
    }

    /// Lets nothing through from one broker to another.
    pub fn block(&mut self, from: BrokerId, to: BrokerId) {
        self.blocked.insert((from, to));
    }

    /// Everything gets through again.
    pub fn unblock(&mut self, from: BrokerId, to: BrokerId) {
        self.blocked.remove(&(from, to));
    }

    /// Everything gets through everywhere.
    pub fn unblock_all(&mut self) {
        self.blocked.clear();
    }

    /// Whether a connection could be set up.
    pub fn gets_through(&self, a: BrokerId, b: BrokerId) -> bool {
        !self.is_blocked(a, b) && !self.is_blocked(b, a)
    }

    /// The number of the connection between two brokers, if there is one.
    pub fn connection(&self, a: BrokerId, b: BrokerId) -> Option<u64> {
        self.links.get(&pair(a, b)).filter(|link| link.is_up).map(|link| link.connection)
    }

    /// Sends a message.
    pub fn send(&mut self, from: BrokerId, to: BrokerId, now_us: u64, random: &mut Random) -> Sent {
        let delay_us = self.delay_us(random);
        let is_blocked = self.is_blocked(from, to);
        let Some(link) = self.links.get_mut(&pair(from, to)).filter(|link| link.is_up) else {
            return Sent::Lost;
        };
        if is_blocked {
            return Sent::Stuck;
        }
        let way = &mut link.directions[direction(from, to)];
        way.sent += 1;
        way.last_arrival_us = (way.last_arrival_us + 1).max(now_us + delay_us);
        Sent::Arrives(way.last_arrival_us, Place { connection: link.connection, number: way.sent })
    }

    /// Whether a message that is due now arrives.
    pub fn arrives(&mut self, from: BrokerId, to: BrokerId, place: Place) -> bool {
        let Some(link) = self.links.get_mut(&pair(from, to)) else { return false };
        let direction = direction(from, to);
        if place.connection == link.connection && link.is_up {
            link.directions[direction].delivered = place.number;
            return true;
        }
        let remains = link.remains.iter().find(|remains| remains.connection == place.connection);
        remains.is_some_and(|remains| place.number <= remains.arrive[direction])
    }

    /// The connection breaks; answers with its number, if there was one. What is under way to `dead` is lost.
    pub fn disconnect(
        &mut self,
        a: BrokerId,
        b: BrokerId,
        dead: Option<BrokerId>,
        random: &mut Random,
    ) -> Option<u64> {
        let (low, high) = pair(a, b);
        let link = self.links.get_mut(&(low, high))?;
        // Not even what is left of earlier connections reaches a dead process.
        for remains in &mut link.remains {
            match dead {
                Some(dead) if dead == high => remains.arrive[0] = 0,
                Some(_) => remains.arrive[1] = 0,
                None => {}
            }
        }
        if !link.is_up {
            return None;
        }
        let mut arrive = [0; 2];
        for (at, receiver) in [(0, high), (1, low)] {
            let Direction { sent, delivered, .. } = link.directions[at];
            let survives = dead != Some(receiver) && random.one_in(2);
            arrive[at] = if survives { delivered + random.below(sent - delivered + 1) } else { delivered };
        }
        link.is_up = false;
        link.remains.push(Remains { connection: link.connection, arrive });
        if link.remains.len() > 4 {
            link.remains.remove(0);
        }
        Some(link.connection)
    }

    /// Sets up a connection if nothing is in the way; answers with the number of the new one.
    pub fn connect(&mut self, a: BrokerId, b: BrokerId) -> Option<u64> {
        if !self.gets_through(a, b) {
            return None;
        }
        let link = self.links.entry(pair(a, b)).or_default();
        if link.is_up {
            return None;
        }
        link.connection += 1;
        link.is_up = true;
        link.directions = Default::default();
        Some(link.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_keeps_the_order_and_a_broken_one_delivers_at_most_a_first_part() {
        let (a, b) = (BrokerId(0), BrokerId(1));
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let mut network = Network::new(500);
            assert_eq!(network.send(a, b, 0, &mut random), Sent::Lost);
            assert_eq!(network.connect(a, b), Some(1));
            let mut places = Vec::new();
            for now_us in 0..20 {
                let Sent::Arrives(at_us, place) = network.send(a, b, now_us, &mut random) else { panic!() };
                places.push((at_us, place));
            }
            assert!(places.is_sorted_by_key(|(at_us, _)| *at_us));
            assert!(network.arrives(a, b, places[0].1));
            assert_eq!(network.disconnect(a, b, None, &mut random), Some(1));
            assert_eq!(network.connect(b, a), Some(2));
            let arrived: Vec<bool> =
                places[1..].iter().map(|(_, place)| network.arrives(a, b, *place)).collect();
            assert!(arrived.is_sorted_by(|earlier, later| earlier >= later), "{arrived:?}");
            network.disconnect(a, b, Some(b), &mut random);
            assert!(!places[1..].iter().any(|(_, place)| network.arrives(a, b, *place)));
        }
    }

    #[test]
    fn a_block_holds_in_one_direction_and_keeps_connections_from_being_set_up() {
        let (a, b) = (BrokerId(0), BrokerId(1));
        let mut random = Random::new(1);
        let mut network = Network::default();
        network.connect(a, b);
        network.block(a, b);
        assert_eq!(network.send(a, b, 0, &mut random), Sent::Stuck);
        assert!(matches!(network.send(b, a, 0, &mut random), Sent::Arrives(..)));
        network.disconnect(a, b, None, &mut random);
        assert_eq!(network.connect(b, a), None);
        network.unblock(a, b);
        assert_eq!(network.connect(b, a), Some(2));
    }
}
