//! Ids as Kafka's tools and files write them: 22 characters of URL-safe base64 without padding (`org.apache.kafka.common.Uuid`).

use uuid::Uuid;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// 21 characters of 6 bits, and one with the last 2 bits at its front.
const FULL_CHARACTERS: u32 = 21;

/// The id as text.
pub fn uuid_text(id: Uuid) -> String {
    let bits = id.as_u128();
    let full = (0..FULL_CHARACTERS).map(|position| (bits >> (122 - 6 * position)) as usize & 63);
    full.chain([(bits as usize & 3) << 4]).map(|index| char::from(ALPHABET[index])).collect()
}

/// Reads what [`uuid_text`] writes.
pub fn parse_uuid_text(text: &str) -> Option<Uuid> {
    let (full, last) = text.as_bytes().split_at_checked(FULL_CHARACTERS as usize)?;
    let value = |character: &u8| ALPHABET.iter().position(|known| known == character);
    let bits =
        full.iter().try_fold(0, |bits: u128, character| Some(bits << 6 | value(character)? as u128))?;
    match last {
        [last] => Some(Uuid::from_u128(bits << 2 | value(last)? as u128 >> 4)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_kafka_does_and_read_again() {
        // org.apache.kafka.common.Uuid: METADATA_TOPIC_ID is 0, 1.
        assert_eq!(uuid_text(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(uuid_text(Uuid::from_u128(u128::MAX)), "_____________________w");
        let mixed = Uuid::from_u128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        assert_eq!(uuid_text(mixed), "ASNFZ4mrze_-3LqYdlQyEA");
        for id in [Uuid::nil(), Uuid::max(), mixed] {
            assert_eq!(parse_uuid_text(&uuid_text(id)), Some(id));
        }
        for wrong in
            ["", "short", "AAAAAAAAAAAAAAAAAAAAAQA", "AAAAAAAAAAAAAAAAAAAA+Q", "äAAAAAAAAAAAAAAAAAAAAQ"]
        {
            assert_eq!(parse_uuid_text(wrong), None, "{wrong}");
        }
    }
}
