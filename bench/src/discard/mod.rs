//! `bench discard`: a server that speaks just enough of Kafka's protocol to be put under load, and does nothing with it.
//!
//! Produce is acknowledged at once and forgotten; Fetch is answered from memory. What a run reaches against it is what the load generator, the
//! protocol and loopback TCP can do together: no broker can look better through the same generator.
//!
//! | file | owns |
//! |---|---|
//! | `log` | the records that every partition seems to hold |
//! | `server` | connections and answers |

mod log;
mod server;

use crate::error::BenchError;
use crate::executor;
use crate::payload::{Filling, Sizes};
use crate::{terminal, units};

use log::PreparedLog;
use server::Server;

/// Options of `bench discard`.
#[derive(Debug, Clone, clap::Args)]
pub struct DiscardArgs {
    /// Where to listen; with port 0 the system chooses one
    #[arg(long, default_value = "127.0.0.1:9192")]
    listen: String,
    /// Partitions that every topic seems to have
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    partitions: u32,
    /// Core of all connections [default: the first]
    #[arg(long)]
    core: Option<usize>,
    /// Bytes that each partition seems to hold for consumers; all share the same memory
    #[arg(long, default_value = "256MiB", value_parser = units::parse_size)]
    log_bytes: usize,
    /// Bytes of the values in it, as in 'bench produce'
    #[arg(long, default_value = "1KiB")]
    size: Sizes,
    /// Bytes of the batches in it
    #[arg(long, default_value = "64KiB", value_parser = units::parse_size)]
    batch_bytes: usize,
}

/// Runs `bench discard`, until it is killed.
pub fn run(args: &DiscardArgs) -> Result<(), BenchError> {
    let core = match args.core {
        Some(core) => executor::choose_cores(Some(&[core]))?[0],
        None => executor::allowed_cores()?.first().copied().unwrap_or_default(),
    };
    if args.log_bytes > 8 << 30 || args.batch_bytes > 64 << 20 {
        return Err(BenchError::Option("--log-bytes: at most 8GiB; --batch-bytes: at most 64MiB".to_owned()));
    }
    let log = PreparedLog::new(args.size.clone(), Filling::Text, args.batch_bytes, args.log_bytes);
    let server = Server::bind(&args.listen, args.partitions, Some(core), log)?;
    terminal::print(&format!("{}\n", server.address))?;
    server.serve()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server in a thread of its own, which ends with the process; its address.
    fn start() -> String {
        let sizes = "200".parse().expect("a size");
        let log = PreparedLog::new(sizes, Filling::Text, 8 << 10, 100 << 10);
        let server = Server::bind("127.0.0.1:0", 3, None, log).expect("a free port");
        let address = server.address.clone();
        std::thread::spawn(move || server.serve());
        address
    }

    #[test]
    fn everything_offered_to_it_is_acknowledged() {
        let address = start();
        for options in [
            "--rate 2k --partitions 3",
            "--rate 2k --idempotent --producers 2 --compression lz4",
            "--rate 2k --acks 0",
        ] {
            let report = crate::produce::tests::produce_to(&address, options);
            assert_eq!((report.records, report.unfinished), (2000, 0), "{options}");
            assert!(report.errors.is_empty(), "{:?}", report.errors);
        }
    }

    #[test]
    fn what_it_serves_to_consumers_passes_their_checks() {
        let address = start();
        for options in ["", "--connections 2"] {
            let report = crate::consume::tests::consume_from(
                &address,
                &format!("--from beginning --partition-max-bytes 20KiB --fetch-max-bytes 20KiB {options}"),
            );
            let verification = report.verification.as_ref().expect("verified");
            assert!(verification.is_sound() && verification.checked == report.records, "{verification:?}");
            assert!(report.records > 3 * 400, "{}", report.records);
            assert_eq!(report.reconnects, 0, "the connection that is done first leaves the other alone");
        }
    }
}
