//! Levels of features that hold for the whole cluster (KIP-584, KIP-1022).

use super::Decision;
use crate::error::CoordError;
use crate::metadata::image::MetadataImage;
use crate::metadata::record::MetadataRecord;
use crate::types::BrokerId;

/// A feature that this broker knows, with the levels that it can work at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupportedFeature {
    /// Its name.
    pub name: &'static str,
    /// The lowest level; 0 is "off".
    pub min_level: i16,
    /// The highest level, which a new cluster starts with.
    pub max_level: i16,
}

/// All features, sorted by name.
pub static FEATURES: &[SupportedFeature] =
    &[SupportedFeature { name: "group.version", min_level: 0, max_level: 1 }];

/// What may happen to a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeType {
    /// It may rise.
    Upgrade,
    /// It may sink, if nothing is lost by that.
    SafeDowngrade,
    /// It may sink.
    UnsafeDowngrade,
    /// Of this number nobody knows what it means.
    Unknown(i8),
}

impl UpgradeType {
    /// The type of this number in requests.
    pub fn from_wire(number: i8) -> Self {
        match number {
            1 => UpgradeType::Upgrade,
            2 => UpgradeType::SafeDowngrade,
            3 => UpgradeType::UnsafeDowngrade,
            other => UpgradeType::Unknown(other),
        }
    }
}

/// The level that a feature shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// Its name.
    pub name: String,
    /// The new level.
    pub level: i16,
    /// What may happen.
    pub upgrade_type: UpgradeType,
}

/// Changes the levels of features: all that are named, or none.
///
/// # Errors
/// INVALID_UPDATE_VERSION of the first feature that cannot have its level.
pub fn update_features(
    image: &MetadataImage,
    updates: &[FeatureUpdate],
    controller: BrokerId,
    validate_only: bool,
) -> Result<Decision<()>, CoordError> {
    let mut records = Vec::new();
    for update in updates {
        let current = image.features().get(&update.name).copied().unwrap_or(0);
        check(update, current, controller).map_err(|problem| {
            CoordError::InvalidUpdateVersion(format!(
                "Invalid update version {} for feature {}. {problem}",
                update.level, update.name
            ))
        })?;
        if update.level != current {
            records.push(MetadataRecord::FeatureLevel { feature: update.name.clone(), level: update.level });
        }
    }
    if validate_only {
        records.clear();
    }
    Ok(Decision { records, reply: () })
}

fn check(update: &FeatureUpdate, current: i16, controller: BrokerId) -> Result<(), String> {
    if let UpgradeType::Unknown(_) = update.upgrade_type {
        return Err("The controller does not support the given upgrade type.".to_owned());
    }
    if update.level < 0 {
        return Err("A feature version cannot be less than 0.".to_owned());
    }
    let feature = FEATURES
        .iter()
        .find(|feature| feature.name == update.name)
        .ok_or_else(|| format!("Local controller {controller} does not support this feature."))?;
    if !(feature.min_level..=feature.max_level).contains(&update.level) {
        return Err(format!(
            "Local controller {controller} only supports versions {}-{}",
            feature.min_level, feature.max_level
        ));
    }
    match update.upgrade_type {
        UpgradeType::Upgrade if update.level < current => {
            let text = "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                        unsafe downgrade.";
            Err(text.to_owned())
        }
        UpgradeType::SafeDowngrade | UpgradeType::UnsafeDowngrade if update.level > current => {
            Err("Can't downgrade to a newer version.".to_owned())
        }
        _ => Ok(()),
    }
}
