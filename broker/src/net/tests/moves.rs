//! Connections that move between shards under load. Each answer says which shard the connection was on.

use super::*;

const BUDGET_BYTES: u64 = 64 << 20;

fn start() -> TestServer {
    TestServer::start_shards(SHARDS, BUDGET_BYTES, |limits| limits.idle = Duration::from_secs(600))
}

/// A request that needs `shard`, with a number.
fn needs(key: i16, shard: u8, number: u32) -> Vec<u8> {
    request(key, &[&[shard][..], &number.to_be_bytes()].concat())
}

/// The shard that the connection was on, and the request's number.
fn answered(client: &mut TcpStream) -> (u8, u32) {
    let (_, body) = read_answer(client);
    (body[0], u32::from_be_bytes([body[1], body[2], body[3], body[4]]))
}

/// The shard that the kernel gave the connection to.
fn shard_of(client: &mut TcpStream) -> u8 {
    client.write_all(&needs(NEEDS, 0, 0)).expect("sent");
    answered(client).0
}

/// One request at a time, each for the other shard, until the connection is there.
fn drive_away(client: &mut TcpStream) -> u8 {
    let home = shard_of(client);
    for number in 0..10_000 {
        client.write_all(&needs(NEEDS, 1 - home, number)).expect("sent");
        let (shard, answer) = answered(client);
        assert_eq!(answer, number);
        if shard != home {
            return shard;
        }
    }
    panic!("the connection has not moved");
}

fn assert_clean_stop(server: TestServer) {
    let (budgets, open) = (server.budgets.clone(), server.open_in_broker.clone());
    server.stop();
    assert!(budgets.iter().all(|budget| budget.used_bytes() == 0));
    assert_eq!(open.load(Ordering::Relaxed), 0, "every connection was counted in and out once");
}

#[test]
fn pipelined_requests_are_answered_in_order_across_a_move() {
    const REQUESTS: u32 = 20_000;
    let server = start();
    let mut client = server.connect();
    let home = shard_of(&mut client);
    let mut sender = client.try_clone().expect("cloned");
    // The client never leaves the connection quiet by itself.
    let sending = std::thread::spawn(move || {
        for number in 0..REQUESTS {
            sender.write_all(&needs(NEEDS_LATER, 1 - home, number)).expect("sent");
        }
    });
    let answers: Vec<_> = (0..REQUESTS).map(|_| answered(&mut client)).collect();
    sending.join().expect("all is taken");
    assert!(answers.iter().map(|(_, number)| *number).eq(0..REQUESTS));
    let changes = answers.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
    assert_eq!(server.moves(), 1);
    assert_eq!((changes, answers.last().expect("many").0), (1, 1 - home), "it moved, once");
    assert_clean_stop(server);
}

#[test]
fn a_move_in_the_middle_of_a_frame_loses_no_byte_of_it() {
    // Cut within the length, right after it, within a frame that is charged at once, and within one that is charged in steps.
    for (body_bytes, sent_before) in [(100, 2), (100, 4), (100, 60), (3_000_000, 5), (3_000_000, 1_200_000)] {
        let server = start();
        let mut client = server.connect();
        let home = shard_of(&mut client);
        // Together with what has found out the shard, one window …
        for number in 1..64 {
            client.write_all(&needs(NEEDS_LATER, 1 - home, number)).expect("sent");
            assert_eq!(answered(&mut client), (home, number));
        }
        // … and the other, with the cut frame right behind it.
        let body: Vec<u8> = (0..body_bytes).map(|n| (n % 251) as u8).collect();
        let cut = request(ECHO, &body);
        let (before, after) = cut.split_at(sent_before);
        let window: Vec<u8> = (0..100).flat_map(|number| needs(NEEDS_LATER, 1 - home, number)).collect();
        client.write_all(&[&window[..], before].concat()).expect("sent");
        assert!((0..100).all(|number| answered(&mut client).1 == number));
        wait_until(|| server.moves() == 1);
        client.write_all(after).expect("sent");
        assert!(read_answer(&mut client) == (ECHO, body), "{body_bytes} bytes cut at {sent_before}");
        assert_eq!(shard_of(&mut client), 1 - home);
        assert_clean_stop(server);
    }
}

#[test]
fn many_connections_move_at_once_and_all_are_served_on() {
    const CONNECTIONS: usize = 200;
    let server = start();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    let homes: Vec<u8> = clients.iter_mut().map(shard_of).collect();
    for number in 0..150 {
        for (client, home) in clients.iter_mut().zip(&homes) {
            client.write_all(&needs(NEEDS, 1 - home, number)).expect("sent");
        }
        for client in &mut clients {
            assert_eq!(answered(client).1, number);
        }
    }
    for (client, home) in clients.iter_mut().zip(&homes) {
        assert_eq!(shard_of(client), 1 - home);
    }
    assert_eq!(server.open_in_broker.load(Ordering::Relaxed), CONNECTIONS);
    drop(clients);
    assert_clean_stop(server);
}

#[test]
fn a_connection_that_has_just_moved_stays() {
    let server = start();
    let mut client = server.connect();
    let there = drive_away(&mut client);
    for number in 0..1000 {
        client.write_all(&needs(NEEDS, 1 - there, number)).expect("sent");
        assert_eq!(answered(&mut client), (there, number));
    }
    assert_clean_stop(server);
}

#[test]
fn a_request_that_waits_keeps_its_connection_where_it_is_until_it_is_answered() {
    let server = start();
    let mut client = server.connect();
    let home = shard_of(&mut client);
    client.write_all(&request(HELD, &[9; 5])).expect("sent");
    for number in 0..200 {
        client.write_all(&needs(NEEDS, 1 - home, number)).expect("sent");
    }
    client.write_all(&request(RELEASE, &[])).expect("sent");
    assert_eq!(read_answer(&mut client), (HELD, vec![9; 5]));
    // Behind a request that may wait for long the connection is read on: the release has come through.
    assert!((0..200).all(|number| answered(&mut client) == (home, number)));
    assert_eq!(read_answer(&mut client).0, RELEASE);
    assert_clean_stop(server);
}

#[test]
fn with_moves_switched_off_a_connection_stays() {
    let server = TestServer::start_shards(SHARDS, BUDGET_BYTES, |limits| limits.moves = false);
    let mut client = server.connect();
    let home = shard_of(&mut client);
    for number in 0..500 {
        client.write_all(&needs(NEEDS, 1 - home, number)).expect("sent");
        assert_eq!(answered(&mut client), (home, number));
    }
    assert_clean_stop(server);
}
