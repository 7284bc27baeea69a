//! What configs belong to: topics, brokers, groups and so on, with Kafka's numbers and names.

/// The kind of a resource that has configs (`ConfigResource.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResourceType {
    /// A topic, by its name.
    Topic,
    /// A broker, by its id; the empty name stands for the defaults of all brokers.
    Broker,
    /// The levels of a broker's loggers, by its id.
    BrokerLogger,
    /// Subscriptions to the metrics of clients (KIP-714), by name.
    ClientMetrics,
    /// A group, by its id.
    Group,
}

impl ConfigResourceType {
    /// All kinds, by number.
    pub const ALL: [ConfigResourceType; 5] = [
        ConfigResourceType::Topic,
        ConfigResourceType::Broker,
        ConfigResourceType::BrokerLogger,
        ConfigResourceType::ClientMetrics,
        ConfigResourceType::Group,
    ];

    /// The kind of this number, if there is one.
    pub fn from_wire(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.wire() == number)
    }

    /// The kind's number in requests.
    pub fn wire(self) -> i8 {
        match self {
            ConfigResourceType::Topic => 2,
            ConfigResourceType::Broker => 4,
            ConfigResourceType::BrokerLogger => 8,
            ConfigResourceType::ClientMetrics => 16,
            ConfigResourceType::Group => 32,
        }
    }

    /// The kind's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            ConfigResourceType::Topic => "TOPIC",
            ConfigResourceType::Broker => "BROKER",
            ConfigResourceType::BrokerLogger => "BROKER_LOGGER",
            ConfigResourceType::ClientMetrics => "CLIENT_METRICS",
            ConfigResourceType::Group => "GROUP",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_number_and_no_other_number_is() {
        for kind in ConfigResourceType::ALL {
            assert_eq!(ConfigResourceType::from_wire(kind.wire()), Some(kind));
        }
        for number in [0, 1, 3, 64, -1] {
            assert_eq!(ConfigResourceType::from_wire(number), None);
        }
    }
}
