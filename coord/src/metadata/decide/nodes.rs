//! Where nodes keep their data: by that a voter that has lost its disk is told from the one that it was (KIP-853).

use super::Decision;
use crate::error::CoordError;
use crate::metadata::image::{MetadataImage, NodeDirectory};
use crate::metadata::record::MetadataRecord;

/// Notes where a node keeps its data; replies whether that is another directory than before. A voter may not change it: others count on what it has acknowledged
/// and promised, and whoever comes with another directory knows nothing of that.
pub fn note_directory(
    image: &MetadataImage,
    node: NodeDirectory,
    is_voter: bool,
) -> Result<Decision<bool>, CoordError> {
    let known = image.node(node.id);
    let is_other = known.is_some_and(|known| known.directory != node.directory);
    if is_other && is_voter {
        return Err(CoordError::InvalidVoterKey(format!(
            "node {} votes in the metadata quorum with another data directory: it has lost its disk, and has to be removed from the quorum before it \
             can come back",
            node.id
        )));
    }
    if known == Some(&node) {
        return Ok(Decision::unchanged(false));
    }
    Ok(Decision { records: vec![MetadataRecord::NodeDirectory(node)], reply: is_other })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::types::BrokerId;

    fn node(directory: u128, port: u16) -> NodeDirectory {
        NodeDirectory { id: BrokerId(1), directory: Uuid::from_u128(directory), host: "h".to_owned(), port }
    }

    fn note(image: &mut MetadataImage, directory: u128, port: u16, is_voter: bool) -> Option<(bool, usize)> {
        let decision = note_directory(image, node(directory, port), is_voter).ok()?;
        image.replay_all(&decision.records).unwrap();
        Some((decision.reply, decision.records.len()))
    }

    #[test]
    fn a_voter_keeps_its_directory_and_others_may_come_with_a_new_one() {
        let mut image = MetadataImage::new();
        assert_eq!(note(&mut image, 7, 1, true), Some((false, 1)), "the first one counts");
        assert_eq!(note(&mut image, 7, 1, true), Some((false, 0)));
        assert_eq!(note(&mut image, 7, 2, true), Some((false, 1)), "it may move");
        assert_eq!(note(&mut image, 8, 2, true), None);
        assert_eq!(image.node(BrokerId(1)), Some(&node(7, 2)));
        assert_eq!(note(&mut image, 8, 2, false), Some((true, 1)));
        assert_eq!(note(&mut image, 8, 2, true), Some((false, 0)));
    }
}
