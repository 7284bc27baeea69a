//! API keys and the versions of the headers that belong to them.

use std::ops::RangeInclusive;

include!(concat!(env!("OUT_DIR"), "/api_key.rs"));

impl ApiKey {
    /// Whether the version of the API has compact lengths and tagged fields (KIP-482).
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<i16> for ApiKey {
    type Error = crate::wire::DecodeError;

    fn try_from(key: i16) -> Result<Self, Self::Error> {
        ApiKey::from_i16(key).ok_or(crate::wire::DecodeError::UnknownApiKey(key))
    }
}

/// The version of the request header in front of a request.
pub const fn request_header_version(key: ApiKey, version: i16) -> i16 {
    if key.is_flexible(version) { 2 } else { 1 }
}

/// The version of the response header in front of an answer. ApiVersions always has version 0, so that a client that
/// asked in a version the broker does not know can read the answer (KIP-511).
pub const fn response_header_version(key: ApiKey, version: i16) -> i16 {
    match key {
        ApiKey::ApiVersions => 0,
        _ if key.is_flexible(version) => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_their_numbers_belong_together() {
        for &key in ApiKey::ALL {
            assert_eq!(ApiKey::from_i16(key as i16), Some(key));
        }
        assert_eq!(ApiKey::from_i16(-1), None);
        assert_eq!(ApiKey::from_i16(4), None, "LeaderAndIsr is gone since 4.0");
        assert_eq!(ApiKey::try_from(1), Ok(ApiKey::Fetch));
    }

    #[test]
    fn headers_are_flexible_with_their_api_except_in_answers_to_api_versions() {
        assert_eq!(request_header_version(ApiKey::Produce, 8), 1);
        assert_eq!(request_header_version(ApiKey::Produce, 9), 2);
        assert_eq!(response_header_version(ApiKey::Produce, 9), 1);
        assert_eq!(request_header_version(ApiKey::ApiVersions, 3), 2);
        assert_eq!(response_header_version(ApiKey::ApiVersions, 3), 0);
        assert_eq!(request_header_version(ApiKey::SaslHandshake, 1), 1);
    }
}
