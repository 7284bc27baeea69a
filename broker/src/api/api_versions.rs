//! ApiVersions (key 18): what this broker serves.
//!
//! The only request that is answered in whatever version it comes: an unknown one gets version 0 with UNSUPPORTED_VERSION and the list,
//! so that the client can come again (KIP-511). Features are told with the levels that the cluster has (KIP-584).

use coord::metadata::MetadataImage;
use coord::metadata::decide::FEATURES;
use protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use protocol::{ApiKey, ErrorCode};

use super::{Answer, Call, is_served_here, table};
use crate::net::connection::ClientSoftware;

/// The highest version of ApiVersions itself.
const MAX_VERSION: i16 = 4;

/// Answers with the table.
pub async fn handle(call: Call) -> Answer {
    if !(0..=MAX_VERSION).contains(&call.version) {
        let response = list(&call, ErrorCode::UNSUPPORTED_VERSION, 0);
        return call.respond_in_version(&response, 0);
    }
    let request: ApiVersionsRequest<'_> = call.decode()?;
    if call.version >= 3 {
        let (name, version) = (&request.client_software_name, &request.client_software_version);
        if !is_software_text(name) || !is_software_text(version) {
            let refusal =
                ApiVersionsResponse { error_code: ErrorCode::INVALID_REQUEST.code(), ..Default::default() };
            return call.respond(&refusal);
        }
        // A second ApiVersions on one connection changes nothing.
        if let Some(connection) = &call.connection {
            let software = ClientSoftware { name: name.to_string(), version: version.to_string() };
            let _ = connection.software.set(software);
        }
    }
    call.respond(&list(&call, ErrorCode::NONE, call.version))
}

/// What this node serves.
fn list(call: &Call, error: ErrorCode, version: i16) -> ApiVersionsResponse<'static> {
    response(error, &call.shard.image(), version, |key| is_served_here(&call.shard, key))
}

/// Clients before version 4 stumble over a feature whose lowest level is 0 (KAFKA-17011).
const FIRST_VERSION_WITH_LEVEL_0: i16 = 4;

fn response(
    error: ErrorCode,
    image: &MetadataImage,
    version: i16,
    is_served: impl Fn(ApiKey) -> bool,
) -> ApiVersionsResponse<'static> {
    let api_keys = table::SERVED
        .iter()
        .filter(|served| is_served(served.key))
        .map(|served| ApiVersion {
            api_key: served.key as i16,
            min_version: served.min_version,
            max_version: served.max_version,
            ..Default::default()
        })
        .collect();
    let supported = FEATURES
        .iter()
        .filter(|feature| feature.min_level > 0 || version >= FIRST_VERSION_WITH_LEVEL_0)
        .map(|feature| SupportedFeatureKey {
            name: feature.name.into(),
            min_version: feature.min_level,
            max_version: feature.max_level,
            ..Default::default()
        });
    let finalized = image.features().iter().map(|(name, level)| FinalizedFeatureKey {
        name: name.clone().into(),
        max_version_level: *level,
        min_version_level: *level,
        ..Default::default()
    });
    ApiVersionsResponse {
        error_code: error.code(),
        api_keys,
        supported_features: supported.collect(),
        finalized_features_epoch: image.next_offset() - 1,
        finalized_features: finalized.collect(),
        ..Default::default()
    }
}

/// Letters, digits, dots and dashes, with a letter or digit at both ends.
fn is_software_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && bytes.iter().all(is_inner)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kip_511() {
        for good in ["apache-kafka-java", "4.1.0", "a", "v2.3.0-RC1"] {
            assert!(is_software_text(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "ü", "a_b"] {
            assert!(!is_software_text(bad), "{bad}");
        }
    }

    #[test]
    fn the_list_is_told_with_and_without_an_error() {
        for error in [ErrorCode::NONE, ErrorCode::UNSUPPORTED_VERSION] {
            let response = response(error, &MetadataImage::new(), 0, |_| true);
            assert_eq!(response.error_code, error.code());
            assert!(response.api_keys.iter().any(|key| key.api_key == 18 && key.max_version == MAX_VERSION));
        }
    }
}
