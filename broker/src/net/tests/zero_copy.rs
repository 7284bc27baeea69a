//! Sends that the kernel makes no copy of, forced on where it copies after all: what holds for their memory holds all the same.

use super::*;
use crate::config::ZeroCopy;

fn start(mode: ZeroCopy, change_limits: impl FnOnce(&mut Limits)) -> TestServer {
    TestServer::start(64 << 20, |limits| {
        limits.zero_copy = mode;
        change_limits(limits);
    })
}

fn read_coarse(client: &mut TcpStream) {
    let mut head = [0; 4];
    client.read_exact(&mut head).expect("an answer");
    let mut answer = vec![0; i32::from_be_bytes(head) as usize];
    assert_eq!(answer.len(), COARSE_SEGMENTS * COARSE_SEGMENT_BYTES);
    client.read_exact(&mut answer).expect("the whole answer");
    for (n, segment) in answer.chunks(COARSE_SEGMENT_BYTES).enumerate() {
        assert!(segment.iter().all(|byte| *byte == n as u8), "segment {n}");
    }
}

#[test]
fn answers_arrive_whole_and_their_memory_is_given_back_while_the_connection_lives() {
    let server = start(ZeroCopy::Always, |_| {});
    let mut client = server.connect();
    client
        .write_all(&[request(COARSE, b""), request(ECHO, b"x"), request(COARSE, b"")].concat())
        .expect("sent");
    read_coarse(&mut client);
    assert_eq!(read_answer(&mut client), (ECHO, b"x".to_vec()));
    read_coarse(&mut client);
    wait_until(|| server.budget.used_bytes() == 0);
    client.write_all(&request(ECHO, b"still served")).expect("sent");
    assert_eq!(read_answer(&mut client).1, b"still served");
    assert!(server.zero_copy_sends() > 0);
    server.stop();
}

#[test]
fn a_client_that_never_reads_is_cut_off_and_the_kernel_lets_go_of_the_memory() {
    let server = start(ZeroCopy::Always, |limits| limits.stall = Duration::from_millis(100));
    let mut client = server.connect();
    client.write_all(&request(COARSE, b"").repeat(20)).expect("sent");
    wait_until(|| server.zero_copy_sends() > 0);
    wait_until(|| server.budget.used_bytes() == 0);
    drop(client);
    server.stop();
}

#[test]
fn a_client_that_dies_in_the_middle_of_an_answer_leaves_nothing_behind() {
    let server = start(ZeroCopy::Always, |_| {});
    for _ in 0..20 {
        let mut client = server.connect();
        client.write_all(&request(COARSE, b"").repeat(3)).expect("sent");
        client.read_exact(&mut [0; 100_000]).expect("the beginning");
    }
    wait_until(|| server.budget.used_bytes() == 0);
    server.stop();
}

#[test]
fn a_stop_does_not_wait_for_a_client_that_does_not_read() {
    let server = start(ZeroCopy::Always, |_| {});
    let mut client = server.connect();
    client.write_all(&request(COARSE, b"").repeat(3)).expect("sent");
    wait_until(|| server.zero_copy_sends() > 0);
    server.stop_with_nothing_charged();
    drop(client);
}

#[test]
fn on_this_machine_it_is_off_unless_it_is_forced() {
    for mode in [ZeroCopy::Auto, ZeroCopy::Off] {
        let server = start(mode, |_| {});
        let mut client = server.connect();
        client.write_all(&request(COARSE, b"")).expect("sent");
        read_coarse(&mut client);
        assert_eq!(server.zero_copy_sends(), 0);
        server.stop();
    }
}
