//! UpdateFeatures (key 57): levels of features that hold for the whole cluster (KIP-584).
//!
//! All that are named change, or none. Source: `FeatureControlManager.updateFeatures`, `ControllerApis.handleUpdateFeatures`.

use coord::metadata::decide::{FeatureUpdate, UpgradeType};
use protocol::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::{Answer, Call};
use crate::controller;

/// Changes the levels, or only checks.
pub async fn handle(call: Call) -> Answer {
    let request: UpdateFeaturesRequest<'_> = call.decode()?;
    let updates = request.feature_updates.iter().map(|update| feature_update(call.version, update));
    let outcome = controller::update_features(&call.shard, updates.collect(), request.validate_only).await;
    let response = match outcome {
        Ok(()) => UpdateFeaturesResponse {
            error_message: None,
            results: request
                .feature_updates
                .iter()
                .map(|update| UpdatableFeatureResult {
                    feature: update.feature.as_ref().into(),
                    error_message: None,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        },
        Err(error) => {
            let text = format!(
                "The update failed for all features since the following feature had an error: {error}"
            );
            UpdateFeaturesResponse {
                error_code: error.code().code(),
                error_message: Some(text.into()),
                ..Default::default()
            }
        }
    };
    call.respond(&response)
}

fn feature_update(version: i16, update: &FeatureUpdateKey<'_>) -> FeatureUpdate {
    let upgrade_type = match (version, update.allow_downgrade) {
        (0, true) => UpgradeType::SafeDowngrade,
        (0, false) => UpgradeType::Upgrade,
        _ => UpgradeType::from_wire(update.upgrade_type),
    };
    FeatureUpdate { name: update.feature.to_string(), level: update.max_version_level, upgrade_type }
}
