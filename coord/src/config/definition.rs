//! What the table says about one config, and how a value is checked against it (Kafka's `ConfigDef`).

/// The type of a config's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// Any text.
    String,
    /// 16 bits, signed.
    Short,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// A decimal fraction.
    Double,
    /// Texts separated by commas.
    List,
}

impl ConfigType {
    /// The type's number in DescribeConfigs.
    pub fn wire(self) -> i8 {
        match self {
            ConfigType::Boolean => 1,
            ConfigType::String => 2,
            ConfigType::Int => 3,
            ConfigType::Short => 4,
            ConfigType::Long => 5,
            ConfigType::Double => 6,
            ConfigType::List => 7,
        }
    }

    /// The type's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            ConfigType::Boolean => "BOOLEAN",
            ConfigType::String => "STRING",
            ConfigType::Int => "INT",
            ConfigType::Short => "SHORT",
            ConfigType::Long => "LONG",
            ConfigType::Double => "DOUBLE",
            ConfigType::List => "LIST",
        }
    }
}

/// Which values of the type are allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Valid {
    /// All.
    Any,
    /// A number not below this.
    AtLeast(i64),
    /// A number in this range, both ends included.
    Between(i64, i64),
    /// A fraction in this range, both ends included.
    Fraction(f64, f64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A list of these texts, possibly empty.
    ListOf(&'static [&'static str]),
    /// -1, or a level between these.
    Level(i64, i64),
    /// `partition:broker` pairs, or `*`.
    ThrottledReplicas,
}

impl Valid {
    /// The allowed values in words, for documentation.
    pub fn describe(self) -> String {
        match self {
            Valid::Any => "any".to_owned(),
            Valid::AtLeast(low) => format!("at least {low}"),
            Valid::Between(low, high) => format!("{low} to {high}"),
            Valid::Fraction(low, high) => format!("{low} to {high}"),
            Valid::OneOf(texts) => texts.join(", "),
            Valid::ListOf(texts) => format!("list of: {}", texts.join(", ")),
            Valid::Level(low, high) => format!("-1, or {low} to {high}"),
            Valid::ThrottledReplicas => "partition:broker,… or *".to_owned(),
        }
    }
}

/// How much most users should care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Look at it.
    High,
    /// Know it.
    Medium,
    /// Leave it.
    Low,
}

/// What this broker does with a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Every valid value does what the documentation says.
    Works,
    /// Every valid value is satisfied by what this broker does anyway; the text says why.
    Satisfied(&'static str),
    /// Only the default, and the values listed, are accepted; the text says why others are refused.
    Only(&'static [&'static str], &'static str),
}

/// A broker-side property that gives the default of a topic config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerSynonym {
    /// The property's name.
    pub name: &'static str,
    /// What its value is multiplied by to give the topic config's (hours to milliseconds); 1 for none.
    pub factor: i64,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfigDefinition {
    /// The config's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: ConfigType,
    /// The default in text form.
    pub default: &'static str,
    /// Allowed values.
    pub valid: Valid,
    /// How much it matters.
    pub importance: Importance,
    /// Broker-side properties that change the default, the one that wins first.
    pub synonyms: &'static [ServerSynonym],
    /// What this broker does with it.
    pub support: Support,
    /// What it does.
    pub documentation: &'static str,
}

/// The part of a value that is wrong, and what is wrong with it.
type Problem<'v> = (&'v str, String);

impl ConfigDefinition {
    /// The default as it is written under one of its properties: `168` for `log.retention.hours`.
    pub fn default_in_unit_of(&self, synonym: &ServerSynonym) -> String {
        match self.default.parse::<i64>() {
            Ok(number) if synonym.factor > 1 && number > 0 => (number / synonym.factor).to_string(),
            _ => self.default.to_owned(),
        }
    }

    /// Checks a value by type and range; the message is the one of Kafka's `ConfigException`.
    pub fn check(&self, value: &str) -> Result<(), String> {
        self.check_as(self.name, value)
    }

    /// Like [`ConfigDefinition::check`], for a value that was given under another name, such as the broker's default of a topic config.
    pub fn check_as(&self, name: &str, value: &str) -> Result<(), String> {
        let problem = self.problem(value);
        problem
            .map_err(|(value, problem)| format!("Invalid value {value} for configuration {name}: {problem}"))
    }

    fn problem<'v>(&self, value: &'v str) -> Result<(), Problem<'v>> {
        let trimmed = value.trim();
        match self.kind {
            ConfigType::Boolean => {
                if trimmed.eq_ignore_ascii_case("true") || trimmed.eq_ignore_ascii_case("false") {
                    Ok(())
                } else {
                    Err((value, "Expected value to be either true or false".to_owned()))
                }
            }
            ConfigType::Short => match trimmed.parse::<i16>() {
                Ok(number) => self.check_number(value, i64::from(number)),
                Err(_) => Err(self.not_a_number(value)),
            },
            ConfigType::Int => match trimmed.parse::<i32>() {
                Ok(number) => self.check_number(value, i64::from(number)),
                Err(_) => Err(self.not_a_number(value)),
            },
            ConfigType::Long => match trimmed.parse::<i64>() {
                Ok(number) => self.check_number(value, number),
                Err(_) => Err(self.not_a_number(value)),
            },
            ConfigType::Double => match trimmed.parse::<f64>() {
                Ok(number) => self.check_fraction(value, number),
                Err(_) => Err(self.not_a_number(value)),
            },
            ConfigType::String => match self.valid {
                Valid::OneOf(texts) if !texts.contains(&trimmed) => {
                    Err((value, format!("String must be one of: {}", texts.join(", "))))
                }
                _ => Ok(()),
            },
            ConfigType::List => self.check_list(trimmed),
        }
    }

    /// Checks that this broker honours the value, which is valid by itself; the message says what to do instead.
    pub fn check_supported(&self, value: &str) -> Result<(), String> {
        self.check_supported_as(self.name, value)
    }

    /// Like [`ConfigDefinition::check_supported`], for a value that was given under another name.
    pub fn check_supported_as(&self, name: &str, value: &str) -> Result<(), String> {
        match self.support {
            Support::Works | Support::Satisfied(_) => Ok(()),
            Support::Only(values, why) => {
                let normal = self.normalize(value);
                if normal == self.default || values.contains(&normal.as_str()) {
                    Ok(())
                } else {
                    Err(format!("Invalid value {value} for configuration {name}: {why}"))
                }
            }
        }
    }

    /// The value in the form in which it is compared and shown: without blanks around it and its elements, booleans in lower case.
    pub fn normalize(&self, value: &str) -> String {
        match self.kind {
            ConfigType::Boolean => value.trim().to_ascii_lowercase(),
            ConfigType::List => list_elements(value).collect::<Vec<_>>().join(","),
            _ => value.trim().to_owned(),
        }
    }

    fn check_number<'v>(&self, value: &'v str, number: i64) -> Result<(), Problem<'v>> {
        match self.valid {
            Valid::AtLeast(low) | Valid::Between(low, _) if number < low => {
                Err((value, format!("Value must be at least {low}")))
            }
            Valid::Between(_, high) if number > high => {
                Err((value, format!("Value must be no more than {high}")))
            }
            Valid::Level(low, high) if number != -1 && !(low..=high).contains(&number) => {
                Err((value, format!("Value must be between {low} and {high} or equal to -1")))
            }
            _ => Ok(()),
        }
    }

    fn check_fraction<'v>(&self, value: &'v str, number: f64) -> Result<(), Problem<'v>> {
        match self.valid {
            _ if number.is_nan() => Err(self.not_a_number(value)),
            Valid::Fraction(low, _) if number < low => Err((value, format!("Value must be at least {low}"))),
            Valid::Fraction(_, high) if number > high => {
                Err((value, format!("Value must be no more than {high}")))
            }
            _ => Ok(()),
        }
    }

    fn check_list<'v>(&self, value: &'v str) -> Result<(), Problem<'v>> {
        match self.valid {
            Valid::ListOf(texts) => match list_elements(value).find(|element| !texts.contains(element)) {
                Some(bad) => Err((bad, format!("String must be one of: {}", texts.join(", ")))),
                None => Ok(()),
            },
            Valid::ThrottledReplicas => {
                let pair = |element: &str| {
                    element.split_once(':').is_some_and(|(partition, broker)| {
                        partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok()
                    })
                };
                if value == "*" || list_elements(value).all(pair) {
                    Ok(())
                } else {
                    let problem = "Must be the literal '*' or a list of replicas in the following format: \
                                   [partitionId]:[brokerId],[partitionId]:[brokerId],...";
                    Err((value, problem.to_owned()))
                }
            }
            _ => Ok(()),
        }
    }

    fn not_a_number<'v>(&self, value: &'v str) -> Problem<'v> {
        (value, format!("Not a number of type {}", self.kind.name()))
    }
}

/// The elements of a list value, without blanks around them and without empty ones.
pub fn list_elements(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|element| !element.is_empty())
}
