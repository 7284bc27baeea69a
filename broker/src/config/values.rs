//! The types of settings: how each is written in a file, a variable or a flag, and what is allowed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use coord::config::ConfigType;

/// A type that a setting can have: read from text, written back as a TOML value.
pub trait Value: Sized {
    /// Reads the value; the error says what is allowed.
    fn read(text: &str) -> Result<Self, String>;
    /// The value as it stands in a TOML file.
    fn to_toml(&self) -> String;
    /// The value as clients are told it; none if it is absent.
    fn to_text(&self) -> Option<String>;
    /// The type as clients are told it.
    const KIND: ConfigType;
}

macro_rules! integer_value {
    ($($integer:ty: $kind:ident),*) => {$(
        impl Value for $integer {
            fn read(text: &str) -> Result<Self, String> {
                text.trim().replace('_', "").parse().map_err(|_| {
                    format!("a whole number from {} to {}", <$integer>::MIN, <$integer>::MAX)
                })
            }
            fn to_toml(&self) -> String {
                self.to_string()
            }
            fn to_text(&self) -> Option<String> {
                Some(self.to_string())
            }
            const KIND: ConfigType = ConfigType::$kind;
        }
    )*};
}
integer_value!(i16: Short, i32: Int, i64: Long, u32: Int, u64: Long, usize: Long);

impl Value for f64 {
    fn read(text: &str) -> Result<Self, String> {
        let number = text.trim().replace('_', "").parse().ok();
        number.filter(|number: &f64| number.is_finite()).ok_or_else(|| "a number".into())
    }
    fn to_toml(&self) -> String {
        format!("{self:?}")
    }
    fn to_text(&self) -> Option<String> {
        // As Java writes it, which is how Kafka tells its defaults.
        Some(if self.abs() >= 1e7 { format!("{self:E}") } else { format!("{self:?}") })
    }
    const KIND: ConfigType = ConfigType::Double;
}

impl Value for bool {
    fn read(text: &str) -> Result<Self, String> {
        match text.trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false".into()),
        }
    }
    fn to_toml(&self) -> String {
        self.to_string()
    }
    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
    const KIND: ConfigType = ConfigType::Boolean;
}

impl Value for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn to_toml(&self) -> String {
        quoted(self)
    }
    fn to_text(&self) -> Option<String> {
        Some(self.clone())
    }
    const KIND: ConfigType = ConfigType::String;
}

impl Value for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path".into()) } else { Ok(PathBuf::from(text)) }
    }
    fn to_toml(&self) -> String {
        quoted(&self.display().to_string())
    }
    fn to_text(&self) -> Option<String> {
        Some(self.display().to_string())
    }
    const KIND: ConfigType = ConfigType::String;
}

/// An optional value is written as an empty string when it is absent.
impl<T: Value> Value for Option<T> {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::read(text).map(Some) }
    }
    fn to_toml(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".into(), Value::to_toml)
    }
    fn to_text(&self) -> Option<String> {
        self.as_ref().and_then(Value::to_text)
    }
    const KIND: ConfigType = T::KIND;
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// An address to listen on or to advertise: `host:port`, `[ipv6]:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// 0 lets the kernel choose when listening.
    pub port: u16,
}

impl Value for HostPort {
    fn read(text: &str) -> Result<Self, String> {
        const ALLOWED: &str = "HOST:PORT, such as 127.0.0.1:9092, [::1]:9092 or broker-1.example.com:9092";
        let (host, port) = text.trim().rsplit_once(':').ok_or(ALLOWED)?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if host.is_empty() || (bare.is_none() && host.contains([':', '[', ']', '/', ' '])) {
            return Err(ALLOWED.into());
        }
        let port = port.parse().map_err(|_| ALLOWED)?;
        Ok(HostPort { host: bare.unwrap_or(host).to_owned(), port })
    }
    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
    const KIND: ConfigType = ConfigType::String;
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A number of bytes, written as `512M`, `4G`, `65536`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 4] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

impl Value for ByteSize {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_uppercase();
        let text = text.strip_suffix("IB").or_else(|| text.strip_suffix('B')).unwrap_or(&text);
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|digits| (digits, *unit)))
            .unwrap_or((text, 1));
        digits
            .trim()
            .replace('_', "")
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(unit))
            .map(ByteSize)
            .ok_or_else(|| "a size, such as 65536, 512M or 4G (K, M, G, T are powers of 1024)".into())
    }
    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
    fn to_text(&self) -> Option<String> {
        Some(self.0.to_string())
    }
    const KIND: ConfigType = ConfigType::Long;
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((suffix, unit)) => write!(f, "{}{suffix}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Which cores the broker runs on, one shard each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cores {
    /// Every core that the process may use.
    All,
    /// These, in this order: shard 0 on the first.
    List(Vec<usize>),
}

/// More shards than this are not supported.
pub const CORES_MAX: usize = 1024;

impl Value for Cores {
    fn read(text: &str) -> Result<Self, String> {
        const ALLOWED: &str = "all, or a list of cores and ranges without repetition, such as 0-7 or 0,2,4-6";
        if text.trim() == "all" {
            return Ok(Cores::All);
        }
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| ALLOWED)?;
            let last: usize = last.trim().parse().map_err(|_| ALLOWED)?;
            if first > last || last >= CORES_MAX {
                return Err(ALLOWED.into());
            }
            for core in first..=last {
                if cores.contains(&core) {
                    return Err(ALLOWED.into());
                }
                cores.push(core);
            }
        }
        Ok(Cores::List(cores))
    }
    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
    const KIND: ConfigType = ConfigType::String;
}

impl fmt::Display for Cores {
    /// Writes runs as ranges: `0-2,5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cores::List(cores) = self else { return f.write_str("all") };
        for (n, run) in cores.chunk_by(|a, b| a + 1 == *b).enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            match run {
                [one] => write!(f, "{one}")?,
                _ => write!(f, "{}-{}", run[0], run[run.len() - 1])?,
            }
        }
        Ok(())
    }
}

/// A setting that lists some of a few words, in an order that may matter.
macro_rules! words_value {
    ($(#[$doc:meta])* $name:ident of $words:expr, by default $default:expr, at least $least:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(pub Vec<String>);

        impl Default for $name {
            fn default() -> Self {
                $name($default.map(str::to_owned).to_vec())
            }
        }

        impl Value for $name {
            fn read(text: &str) -> Result<Self, String> {
                // An array in TOML arrives as it is written there.
                let text = text.trim().trim_start_matches('[').trim_end_matches(']');
                let words = text.split(',').map(|word| word.trim().trim_matches(['"', '\'']).to_owned());
                let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
                let known: &[&str] = &$words;
                let least: &[&str] = &$least;
                let is_known = |word: &String| known.contains(&word.as_str());
                let has = |word: &&str| words.iter().any(|given| given == word);
                if words.is_empty() || !words.iter().all(is_known) || !least.iter().all(has) {
                    let must = if least.is_empty() { String::new() } else { format!(", with {}", least.join(", ")) };
                    return Err(format!("a list of some of: {}{must}", known.join(", ")));
                }
                Ok($name(words))
            }
            fn to_toml(&self) -> String {
                quoted(&self.0.join(","))
            }
            fn to_text(&self) -> Option<String> {
                Some(self.0.join(","))
            }
            const KIND: ConfigType = ConfigType::List;
        }
    };
}

words_value! {
    /// Server-side assignors of consumer groups.
    Assignors of ["uniform", "range"], by default ["uniform", "range"], at least []
}

words_value! {
    /// Protocols of groups.
    RebalanceProtocols of ["classic", "consumer"], by default ["classic", "consumer"], at least ["classic"]
}

words_value! {
    /// What a process does in its cluster.
    ProcessRoles of ["broker", "controller"], by default ["broker", "controller"], at least []
}

impl ProcessRoles {
    /// Whether the process holds partitions and serves clients.
    pub fn broker(&self) -> bool {
        self.0.iter().any(|role| role == "broker")
    }

    /// Whether the process votes on the metadata.
    pub fn controller(&self) -> bool {
        self.0.iter().any(|role| role == "controller")
    }
}

/// A setting that is one of a few words.
macro_rules! word_value {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),* }

        impl Value for $name {
            fn read(text: &str) -> Result<Self, String> {
                match text.trim() {
                    $($word => Ok($name::$variant),)*
                    _ => Err(format!("one of: {}", [$($word),*].join(", "))),
                }
            }
            fn to_toml(&self) -> String {
                quoted(&self.to_string())
            }
            fn to_text(&self) -> Option<String> {
                Some(self.to_string())
            }
            const KIND: ConfigType = ConfigType::String;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$variant => $word),* })
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                Self::read(text)
            }
        }
    };
}

word_value! {
    /// What an acknowledgement promises.
    Durability {
        /// The data is synced: it survives loss of power.
        Sync = "sync",
        /// The data is handed to the device and synced a little later.
        Write = "write",
    }
}

word_value! {
    /// Which replica consumers are told to read from (KIP-392).
    ReplicaSelector {
        /// The leader.
        Leader = "org.apache.kafka.common.replica.LeaderSelector",
        /// One in the consumer's rack, if there is one in sync.
        RackAware = "org.apache.kafka.common.replica.RackAwareReplicaSelector",
    }
}

word_value! {
    /// Where answers are sent without a copy in the kernel.
    ZeroCopy {
        /// On connections to other machines, as long as the kernel does not copy after all.
        Auto = "auto",
        /// Everywhere.
        Always = "always",
        /// Nowhere.
        Off = "off",
    }
}

word_value! {
    /// Which groups may change their protocol while they have members.
    GroupMigration {
        /// Both ways.
        Bidirectional = "bidirectional",
        /// From classic to consumer only.
        Upgrade = "upgrade",
        /// From consumer to classic only.
        Downgrade = "downgrade",
        /// Neither way.
        Disabled = "disabled",
    }
}

word_value! {
    /// How log lines are written.
    LogFormat {
        /// For people and for journald.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_lists_and_ranges_without_repetition() {
        assert_eq!(Cores::read("0-2,5"), Ok(Cores::List(vec![0, 1, 2, 5])));
        assert_eq!(Cores::read("all"), Ok(Cores::All));
        assert_eq!(Cores::List(vec![3, 0, 1, 2, 7]).to_string(), "3,0-2,7");
        for wrong in ["", "a", "2-1", "0,0", "0-3,2", "-1", "5000"] {
            assert!(Cores::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(ByteSize::read("4G"), Ok(ByteSize(4 << 30)));
        assert_eq!(ByteSize::read("64 MiB"), Ok(ByteSize(64 << 20)));
        assert_eq!(ByteSize::read("1_000"), Ok(ByteSize(1000)));
        assert!(ByteSize::read("99999999T").is_err());
        assert_eq!(ByteSize(3 << 29).to_string(), "1536M");
    }

    #[test]
    fn fractions_survive_the_file_and_are_told_as_kafka_tells_them() {
        for (number, told) in
            [(f64::MAX, "1.7976931348623157E308"), (0.5, "0.5"), (1e8, "1E8"), (250.0, "250.0")]
        {
            let file: toml::Table = format!("x = {}", number.to_toml()).parse().expect("TOML");
            assert_eq!(file["x"].as_float(), Some(number));
            assert_eq!(f64::read(&number.to_toml()), Ok(number));
            assert_eq!(number.to_text().as_deref(), Some(told));
        }
        assert!(f64::read("inf").is_err() && f64::read("fast").is_err());
    }

    #[test]
    fn addresses_take_names_and_both_families() {
        assert_eq!(HostPort::read("[::1]:0"), Ok(HostPort { host: "::1".into(), port: 0 }));
        assert_eq!(
            HostPort::read("b-1.example.com:9092").map(|a| a.to_string()),
            Ok("b-1.example.com:9092".into())
        );
        for wrong in ["9092", "::1:9092", "a:b", ":1", "http://x:1", "a:70000"] {
            assert!(HostPort::read(wrong).is_err(), "{wrong}");
        }
    }
}
