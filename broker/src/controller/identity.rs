//! Whose data directory it is: `meta.properties`, in the form that Kafka's tools read.
//!
//! ```text
//! version=1
//! cluster.id=<22 characters>
//! node.id=<number>
//! directory.id=<22 characters>
//! ```
//!
//! The directory's id is drawn before anything else is written: by it a node that comes back without its data is told from the one that it was (KIP-853). As
//! long as the directory belongs to no cluster, `cluster.id` is missing; directories of former versions have no `directory.id` before their next start.
//!
//! A directory that belongs to another node or cluster is refused: two nodes with one history, or one node with two, lose data.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use uuid::Uuid;

const FILE: &str = "meta.properties";
const VERSION: &str = "1";

/// What `meta.properties` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, as text; none before the directory belongs to one.
    pub cluster_id: Option<String>,
    /// The node.
    pub node_id: i32,
    /// The directory; nil if it was set up by a former version.
    pub directory_id: Uuid,
}

impl Identity {
    /// The cluster's id, if the directory belongs to one.
    pub fn cluster_uuid(&self) -> Option<Uuid> {
        protocol::parse_uuid_text(self.cluster_id.as_deref()?)
    }
}

/// Reads the file; `None` if there is none.
pub fn read(data_dir: &Path) -> io::Result<Option<Identity>> {
    let path = data_dir.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    parse(&text).map(Some).map_err(|problem| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} {problem}", path.display()))
    })
}

fn parse(text: &str) -> Result<Identity, String> {
    let mut found = (None, None, None);
    let mut directory_id = Uuid::nil();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=') {
            Some(("version", value)) => found.0 = Some(value),
            Some(("cluster.id", value)) => found.1 = Some(value),
            Some(("directory.id", value)) => {
                directory_id = protocol::parse_uuid_text(value).ok_or("has a directory.id that is none")?;
            }
            Some(("node.id", value)) => found.2 = value.parse().ok(),
            _ => {}
        }
    }
    match found {
        (Some(VERSION), cluster_id, Some(node_id)) if cluster_id.is_some() || !directory_id.is_nil() => {
            Ok(Identity { cluster_id: cluster_id.map(str::to_owned), node_id, directory_id })
        }
        (Some(version), ..) if version != VERSION => {
            Err(format!("has version {version}, this broker knows {VERSION}"))
        }
        _ => Err("does not name version, cluster.id and node.id".to_owned()),
    }
}

/// Writes the file, durably and all at once.
pub fn write(data_dir: &Path, identity: &Identity) -> io::Result<()> {
    let unfinished = data_dir.join(format!("{FILE}.tmp"));
    let mut file = File::create(&unfinished)?;
    let Identity { cluster_id, node_id, directory_id } = identity;
    writeln!(file, "version={VERSION}")?;
    if let Some(cluster_id) = cluster_id {
        writeln!(file, "cluster.id={cluster_id}")?;
    }
    write!(file, "node.id={node_id}\ndirectory.id={}\n", protocol::uuid_text(*directory_id))?;
    file.sync_all()?;
    std::fs::rename(&unfinished, data_dir.join(FILE))?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        let mut identity = Identity { cluster_id: None, node_id: 7, directory_id: Uuid::from_u128(3) };
        for cluster_id in [None, Some("ASNFZ4mrze_-3LqYdlQyEA".to_owned())] {
            identity.cluster_id = cluster_id;
            write(folder.path(), &identity).unwrap();
            assert_eq!(read(folder.path()).unwrap().as_ref(), Some(&identity));
        }
        let former = "version=1\ncluster.id=ASNFZ4mrze_-3LqYdlQyEA\nnode.id=7\n";
        std::fs::write(folder.path().join(FILE), former).unwrap();
        let directory_id = Uuid::nil();
        assert_eq!(read(folder.path()).unwrap(), Some(Identity { directory_id, ..identity }));
        std::fs::write(folder.path().join(FILE), "version=2\ncluster.id=a\nnode.id=1\n").unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("has version 2"));
        std::fs::write(folder.path().join(FILE), "hello").unwrap();
        assert!(read(folder.path()).is_err());
    }
}
