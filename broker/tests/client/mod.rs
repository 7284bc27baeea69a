//! A client that speaks the protocol's messages to a broker.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{Read, Write};
use std::net::TcpStream;

use protocol::Request;
use protocol::frame::{decode_response, encode_request};

use crate::harness::{DEADLINE, RunningBroker};

/// One connection.
pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Connects.
    pub fn new(broker: &RunningBroker) -> Client {
        let stream = TcpStream::connect(broker.kafka).expect("the broker listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a valid time-out");
        Client { stream, correlation_id: 0 }
    }

    /// Sends a request and hands the answer to `read`.
    pub fn call<'a, M: Request<'a>, R>(
        &mut self,
        request: &M,
        version: i16,
        read: impl for<'r> FnOnce(M::Response<'r>) -> R,
    ) -> R {
        self.correlation_id += 1;
        let frame =
            encode_request(self.correlation_id, Some("test"), request, version).expect("encodable").concat();
        let answer = self.call_raw(&frame).expect("an answer");
        let (correlation_id, response) = decode_response(&answer, version).expect("decodable");
        assert_eq!(correlation_id, self.correlation_id);
        read(response)
    }

    /// Sends bytes; the next frame that comes back, or none if the connection is closed instead.
    pub fn call_raw(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        self.send_raw(frame);
        self.receive_raw()
    }

    /// Sends bytes; false if the connection is gone.
    pub fn try_send_raw(&mut self, frame: &[u8]) -> bool {
        self.stream.write_all(frame).is_ok()
    }

    /// Sends bytes.
    pub fn send_raw(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).expect("the broker takes requests");
    }

    /// The next frame, or none if the connection is closed instead.
    pub fn receive_raw(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer).ok()?;
        Some(answer)
    }
}
