//! One connection of a produce run: sends what its partitions have ready, takes the answers, and comes back after it broke.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use glommio::timer::sleep;
use protocol::frame::decode_response;
use protocol::messages::ProduceResponse;

use super::frame::{Frame, VERSIONS};
use super::worker::{Sent, Worker};
use crate::client::{Client, Connection, FrameReader};
use crate::error::BenchError;
use crate::signal::Signal;

/// Kafka's API key of Produce.
const PRODUCE: i16 = 0;
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// A request whose answer has not come.
struct InFlight {
    correlation_id: i32,
    sent_ns: u64,
    sent: Vec<Sent>,
}

/// A connection and what is in flight on it.
pub struct Lane {
    /// Its number in the worker.
    number: usize,
    /// The broker that it leads to, by id; the address may change.
    pub broker: i32,
    /// Where that broker is.
    pub address: RefCell<String>,
    in_flight: RefCell<VecDeque<InFlight>>,
    /// Raised when there may be something to send that was not there before.
    pub wake: Signal,
    doomed: Signal,
    cursor: Cell<usize>,
    correlation_id: Cell<i32>,
}

impl Lane {
    /// A lane without connection.
    pub fn new(number: usize, broker: i32, address: String) -> Lane {
        Lane {
            number,
            broker,
            address: RefCell::new(address),
            in_flight: RefCell::default(),
            wake: Signal::default(),
            doomed: Signal::default(),
            cursor: Cell::new(0),
            correlation_id: Cell::new(0),
        }
    }

    /// Connects, and checks that the broker speaks the version of Produce that the run uses.
    pub async fn connect(&self) -> Result<Client, BenchError> {
        let address = self.address.borrow().clone();
        Client::connect(&address).await
    }

    /// The version of Produce to use with a broker.
    pub fn produce_version(client: &Client) -> Result<i16, BenchError> {
        client.versions.choose(PRODUCE, VERSIONS).ok_or_else(|| BenchError::Refused {
            what: format!("Produce on {}", client.connection.address),
            code: "UNSUPPORTED_VERSION".to_owned(),
            message: format!(": versions {} to {} are needed", VERSIONS.start(), VERSIONS.end()),
        })
    }

    /// Serves the connection until the worker stops, making it again whenever it breaks. `client` is the first connection.
    pub async fn run(&self, worker: Rc<Worker>, client: Option<Client>) {
        let mut next = client;
        while !worker.is_stopped() {
            let client = match next.take() {
                Some(client) => client,
                None => match self.connect().await {
                    Ok(client) => {
                        worker.count_reconnect();
                        client
                    }
                    Err(_) => {
                        worker.refresh.raise();
                        sleep(RECONNECT_PAUSE).await;
                        continue;
                    }
                },
            };
            let outcome = self.serve(&worker, client).await;
            if worker.is_stopped() {
                return;
            }
            if let Err(error @ (BenchError::Protocol { .. } | BenchError::Option(_))) = outcome {
                worker.fail(error);
                return;
            }
            for request in self.in_flight.take() {
                worker.connection_lost(&request.sent);
            }
        }
    }

    /// Sends and receives until one of both fails or the lane is told to end.
    async fn serve(&self, worker: &Worker, client: Client) -> Result<(), BenchError> {
        let Client { connection, mut reader, .. } = client;
        let mut sending = pin!(self.send(worker, &connection));
        let mut receiving = pin!(self.receive(worker, &connection, &mut reader));
        let mut doomed = pin!(self.doomed.wait(None));
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = receiving.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
            if let Poll::Ready(outcome) = sending.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
            doomed.as_mut().poll(cx).map(|()| Ok(()))
        })
        .await
    }

    async fn send(&self, worker: &Worker, connection: &Connection) -> Result<(), BenchError> {
        let mut frame = Frame::default();
        loop {
            if self.in_flight.borrow().len() >= worker.plan.max_in_flight {
                self.wake.wait(None).await;
                continue;
            }
            let mut sent = Vec::new();
            let look_again = worker.collect(self.number, &self.cursor, &mut sent);
            if sent.is_empty() {
                let limit = look_again.map(|at| worker.clock.until(at));
                if limit != Some(Duration::ZERO) {
                    self.wake.wait(limit).await;
                }
                continue;
            }
            let correlation_id = self.correlation_id.get().wrapping_add(1);
            self.correlation_id.set(correlation_id);
            let bytes = worker.build(&mut frame, correlation_id, &mut sent)?;
            let sent_ns = worker.clock.now_ns();
            self.in_flight.borrow_mut().push_back(InFlight { correlation_id, sent_ns, sent });
            connection.write_all(bytes).await?;
            if worker.plan.request.acks == 0 {
                if let Some(request) = self.in_flight.borrow_mut().pop_front() {
                    worker.written_without_answer(&request.sent);
                }
                glommio::executor().yield_if_needed().await;
            }
        }
    }

    async fn receive(
        &self,
        worker: &Worker,
        connection: &Connection,
        reader: &mut FrameReader,
    ) -> Result<(), BenchError> {
        loop {
            let answer = reader.next(connection).await?;
            let (correlation_id, response) =
                decode_response::<ProduceResponse<'_>>(answer, worker.plan.request.version)
                    .map_err(|error| connection.nonsense(error))?;
            let request = self.in_flight.borrow_mut().pop_front();
            let fits = request.is_some_and(|request| {
                request.correlation_id == correlation_id && worker.answered(&request.sent, &response)
            });
            if !fits {
                return Err(connection.nonsense("an answer that fits no request in flight"));
            }
            self.wake.raise();
        }
    }

    /// Ends the connection if its oldest request has waited longer than `limit_ns` for its answer.
    pub fn check_timeout(&self, now_ns: u64, limit_ns: u64) {
        let oldest = self.in_flight.borrow().front().map(|request| request.sent_ns);
        if oldest.is_some_and(|sent_ns| now_ns.saturating_sub(sent_ns) > limit_ns) {
            self.doomed.raise();
        }
    }

    /// Ends the connection, whatever it is doing.
    pub fn end(&self) {
        self.doomed.raise();
    }
}
