//! Files of secrets that rules name: read whole, within a limit, and never shown.

use std::fs::File;
use std::io::Read;

/// Longest file of secrets that is read, in bytes.
const SECRETS_BYTES_MAX: u64 = 4 << 20;

/// The bytes of a file, or why there are none.
pub(super) fn read(path: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    file.take(SECRETS_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{path} cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > SECRETS_BYTES_MAX) {
        return Err(format!("{path} is longer than {SECRETS_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}
