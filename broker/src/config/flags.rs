//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// A Kafka-compatible broker. Without any flag it serves 127.0.0.1:9092 and keeps its data in ./data.
///
/// Every setting can also stand in a TOML file (see --print-config) or in a variable BROKER_<NAME>; flags win over
/// variables, variables over the file.
#[derive(Debug, Default, Parser)]
#[command(name = "broker", version, max_term_width = 110)]
pub struct Flags {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Cores to run on, one shard each [default: all that the process may use]
    #[arg(long, value_name = "0-7")]
    pub cores: Option<String>,
    /// Memory for caches and requests in flight [default: half of the machine's]
    #[arg(long, value_name = "4G")]
    pub memory: Option<String>,
    /// Where data lives [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where Kafka clients connect; port 0 lets the kernel choose [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// The address that clients are told to use [default: that of --listen]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Number of this node in its cluster [default: 1]
    #[arg(long, value_name = "N")]
    pub node_id: Option<String>,
    /// Where metrics and health are served over HTTP [default: 127.0.0.1:9644]
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// What is logged, such as info,broker::net=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Write the addresses in use to this file, as JSON, once the broker is ready
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<String>,
    /// Any other setting, such as --set num_partitions=3 (repeatable)
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub set: Vec<(String, String)>,
    /// Check the configuration and exit
    #[arg(long)]
    pub check: bool,
    /// Print a commented configuration file with every setting and its default, and exit
    #[arg(long)]
    pub print_config: bool,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.trim().to_owned(), value.to_owned()))
        .ok_or_else(|| "NAME=VALUE".into())
}

impl Flags {
    /// The flags that were given, as settings and their values.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let named = [
            ("cores", &self.cores),
            ("memory", &self.memory),
            ("data_dir", &self.data_dir),
            ("listen", &self.listen),
            ("advertise", &self.advertise),
            ("node_id", &self.node_id),
            ("admin", &self.admin),
            ("log_filter", &self.log),
            ("log_format", &self.log_format),
            ("ready_file", &self.ready_file),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        named.chain(self.set.iter().cloned()).collect()
    }
}
