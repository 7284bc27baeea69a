//! Whose data directory it is: `meta.properties`, in the form that Kafka's tools read.
//!
//! ```text
//! version=1
//! cluster.id=<22 characters>
//! node.id=<number>
//! ```
//!
//! A directory that belongs to another node or cluster is refused: two nodes with one history, or one node with two, lose data.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

const FILE: &str = "meta.properties";
const VERSION: &str = "1";

/// What `meta.properties` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, as text.
    pub cluster_id: String,
    /// The node.
    pub node_id: i32,
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
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=') {
            Some(("version", value)) => found.0 = Some(value),
            Some(("cluster.id", value)) => found.1 = Some(value),
            Some(("node.id", value)) => found.2 = value.parse().ok(),
            _ => {}
        }
    }
    match found {
        (Some(VERSION), Some(cluster_id), Some(node_id)) => {
            Ok(Identity { cluster_id: cluster_id.to_owned(), node_id })
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
    let Identity { cluster_id, node_id } = identity;
    write!(file, "version={VERSION}\ncluster.id={cluster_id}\nnode.id={node_id}\n")?;
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
        let identity = Identity { cluster_id: "ASNFZ4mrze_-3LqYdlQyEA".to_owned(), node_id: 7 };
        write(folder.path(), &identity).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(identity));
        std::fs::write(folder.path().join(FILE), "version=2\ncluster.id=a\nnode.id=1\n").unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("has version 2"));
        std::fs::write(folder.path().join(FILE), "hello").unwrap();
        assert!(read(folder.path()).is_err());
    }
}
