//! How a link begins: both sides prove that they know the secret, and agree on cluster, nodes and purpose.
//!
//! ```text
//! hello      dialer → acceptor   64 bytes: magic "KLNK" | version u16 (= 1) | purpose u8 | shard u8 | from i32 | to i32 | cluster id 16 | nonce 32
//! challenge  acceptor → dialer   64 bytes: magic "KLNK" | version u16 (= 1) | 0 0 | from i32 | 0 0 0 0 | cluster id 16 | nonce 32
//! proof      dialer → acceptor   32 bytes: HMAC-SHA256(secret, "link dialer" | hello | challenge)
//! welcome    acceptor → dialer   33 bytes: verdict u8 | HMAC-SHA256(secret, "link acceptor" | hello | challenge | verdict)
//! ```
//! Integers are big-endian; a cluster id that is not known yet is nil. The dialer proves itself first: a stranger who dials in learns a node's number
//! and cluster and nothing that depends on the secret. Both proofs cover both nonces, so neither can be used again, and name their role, so
//! neither can be sent back to its author.

use std::fmt;

use coord::types::BrokerId;
use uuid::Uuid;

use super::secret::{PROOF_BYTES, Secret};
use super::{LinkError, Purpose};

const MAGIC: [u8; 4] = *b"KLNK";
const VERSION: u16 = 1;
/// Length of hello and of challenge.
pub const OPENING_BYTES: usize = 64;
/// Length of welcome.
pub const WELCOME_BYTES: usize = 1 + PROOF_BYTES;
const NONCE_BYTES: usize = 32;
const DIALER: &str = "link dialer";
const ACCEPTOR: &str = "link acceptor";

/// What the acceptor thinks of a dialer who has proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The link is open.
    Welcome,
    /// The two belong to different clusters.
    OtherCluster,
    /// The dialer wants another node, or has the same number as this one.
    OtherNode,
    /// Nobody takes links of this purpose here, or not yet.
    NotServed,
}

const VERDICTS: [Verdict; 4] =
    [Verdict::Welcome, Verdict::OtherCluster, Verdict::OtherNode, Verdict::NotServed];

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Welcome => "welcome",
            Verdict::OtherCluster => "it belongs to another cluster",
            Verdict::OtherNode => {
                "it is another node than the one that was meant, or both have the same node_id"
            }
            Verdict::NotServed => "links of this kind are not taken there, or not yet",
        })
    }
}

/// Random bytes that are used once.
pub fn nonce() -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    // Each id has 122 random bits of the system's generator.
    for part in nonce.chunks_exact_mut(16) {
        part.copy_from_slice(Uuid::new_v4().as_bytes());
    }
    nonce
}

/// The dialer's first words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What the link is for.
    pub purpose: Purpose,
    /// Who dials.
    pub from: BrokerId,
    /// Who is meant.
    pub to: BrokerId,
    /// The shard that dials, modulo 256; 0 says a dialer that does not tell.
    pub shard: u8,
    /// The dialer's cluster; nil if it does not know it yet.
    pub cluster_id: Uuid,
    /// The dialer's nonce.
    pub nonce: [u8; NONCE_BYTES],
}

impl Hello {
    /// The message's bytes.
    pub fn encode(&self) -> [u8; OPENING_BYTES] {
        opening([self.purpose.wire(), self.shard], self.from, self.to.0, self.cluster_id, &self.nonce)
    }

    /// The message of these bytes.
    pub fn decode(bytes: &[u8; OPENING_BYTES]) -> Result<Hello, LinkError> {
        let ([purpose, shard], from, to, cluster_id, nonce) = parse_opening(bytes)?;
        let purpose = Purpose::from_wire(purpose)
            .ok_or_else(|| LinkError::Garbage(format!("a link of unknown purpose {purpose}")))?;
        Ok(Hello { purpose, from, to: BrokerId(to), shard, cluster_id, nonce })
    }
}

/// The acceptor's first words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Who accepts.
    pub from: BrokerId,
    /// The acceptor's cluster; nil if it does not know it yet.
    pub cluster_id: Uuid,
    /// The acceptor's nonce.
    pub nonce: [u8; NONCE_BYTES],
}

impl Challenge {
    /// The message's bytes.
    pub fn encode(&self) -> [u8; OPENING_BYTES] {
        opening([0; 2], self.from, 0, self.cluster_id, &self.nonce)
    }

    /// The message of these bytes.
    pub fn decode(bytes: &[u8; OPENING_BYTES]) -> Result<Challenge, LinkError> {
        let (_, from, _, cluster_id, nonce) = parse_opening(bytes)?;
        Ok(Challenge { from, cluster_id, nonce })
    }
}

fn opening(kind: [u8; 2], from: BrokerId, to: i32, cluster_id: Uuid, nonce: &[u8]) -> [u8; OPENING_BYTES] {
    let mut bytes = [0; OPENING_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_be_bytes());
    bytes[6..8].copy_from_slice(&kind);
    bytes[8..12].copy_from_slice(&from.0.to_be_bytes());
    bytes[12..16].copy_from_slice(&to.to_be_bytes());
    bytes[16..32].copy_from_slice(cluster_id.as_bytes());
    bytes[32..].copy_from_slice(nonce);
    bytes
}

type Opening = ([u8; 2], BrokerId, i32, Uuid, [u8; NONCE_BYTES]);

fn parse_opening(bytes: &[u8; OPENING_BYTES]) -> Result<Opening, LinkError> {
    let number = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    if bytes[..4] != MAGIC {
        return Err(LinkError::Garbage("no node of a cluster speaks like this".to_owned()));
    }
    let version = u16::from_be_bytes([bytes[4], bytes[5]]);
    if version != VERSION {
        return Err(LinkError::Garbage(format!("links of version {version}; this node knows {VERSION}")));
    }
    let from = number(8);
    if from < 0 {
        return Err(LinkError::Garbage(format!("node {from}")));
    }
    let cluster_id = Uuid::from_bytes(bytes[16..32].try_into().expect("sixteen bytes"));
    Ok((
        [bytes[6], bytes[7]],
        BrokerId(from),
        number(12),
        cluster_id,
        bytes[32..].try_into().expect("the nonce"),
    ))
}

/// Both first messages, as they were sent: what the proofs are about.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// See [`Hello`].
    pub hello: [u8; OPENING_BYTES],
    /// See [`Challenge`].
    pub challenge: [u8; OPENING_BYTES],
}

impl Transcript {
    /// What the dialer sends.
    pub fn proof(&self, secret: &Secret) -> [u8; PROOF_BYTES] {
        secret.proof(DIALER, &[&self.hello, &self.challenge])
    }

    /// Checks what the dialer has sent.
    pub fn check_proof(&self, secret: &Secret, proof: &[u8; PROOF_BYTES]) -> Result<(), LinkError> {
        let is_proof = secret.is_proof(DIALER, &[&self.hello, &self.challenge], proof);
        if is_proof { Ok(()) } else { Err(LinkError::NotProved) }
    }

    /// What the acceptor sends.
    pub fn welcome(&self, secret: &Secret, verdict: Verdict) -> [u8; WELCOME_BYTES] {
        let number = VERDICTS.iter().position(|known| *known == verdict).expect("all are listed") as u8;
        let mut welcome = [number; WELCOME_BYTES];
        welcome[1..].copy_from_slice(&secret.proof(ACCEPTOR, &[&self.hello, &self.challenge, &[number]]));
        welcome
    }

    /// Checks what the acceptor has sent, and returns what it thinks.
    pub fn check_welcome(
        &self,
        secret: &Secret,
        welcome: &[u8; WELCOME_BYTES],
    ) -> Result<Verdict, LinkError> {
        let (number, proof) = (welcome[0], &welcome[1..]);
        if !secret.is_proof(ACCEPTOR, &[&self.hello, &self.challenge, &[number]], proof) {
            return Err(LinkError::NotProved);
        }
        let verdict = VERDICTS.get(usize::from(number)).copied();
        verdict.ok_or_else(|| LinkError::Garbage(format!("verdict {number}")))
    }
}

/// Whether two ids can be of one cluster: who does not know its own yet belongs to any.
pub fn same_cluster(one: Uuid, other: Uuid) -> bool {
    one.is_nil() || other.is_nil() || one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_messages_survive_encoding_and_nonsense_is_refused() {
        let hello = Hello {
            purpose: Purpose::Control,
            from: BrokerId(3),
            to: BrokerId(4),
            shard: 5,
            cluster_id: Uuid::from_u128(7),
            nonce: nonce(),
        };
        let bytes = hello.encode();
        assert_eq!(Hello::decode(&bytes).unwrap(), hello);
        let challenge = Challenge { from: BrokerId(4), cluster_id: Uuid::nil(), nonce: nonce() };
        assert_eq!(Challenge::decode(&challenge.encode()).unwrap(), challenge);
        assert_ne!(hello.nonce, challenge.nonce);
        for (at, value) in [(0, b'X'), (5, 9), (6, 0), (6, 99), (8, 0xff)] {
            let mut wrong = bytes;
            wrong[at] = value;
            assert!(matches!(Hello::decode(&wrong), Err(LinkError::Garbage(_))), "{at}");
        }
    }

    #[test]
    fn a_verdict_cannot_be_altered_and_a_proof_cannot_be_sent_back() {
        let secret = Secret::new(b"a secret of some length").unwrap();
        let transcript = Transcript { hello: [1; OPENING_BYTES], challenge: [2; OPENING_BYTES] };
        let proof = transcript.proof(&secret);
        assert!(transcript.check_proof(&secret, &proof).is_ok());
        let mut welcome = transcript.welcome(&secret, Verdict::OtherCluster);
        assert_eq!(transcript.check_welcome(&secret, &welcome).unwrap(), Verdict::OtherCluster);
        welcome[0] = 0;
        assert!(matches!(transcript.check_welcome(&secret, &welcome), Err(LinkError::NotProved)));
        let mut reflected = [0; WELCOME_BYTES];
        reflected[1..].copy_from_slice(&proof);
        assert!(matches!(transcript.check_welcome(&secret, &reflected), Err(LinkError::NotProved)));
    }
}
