//! Secrets of the job file: it says where they are, and they are read when a connection is made.

/// The secret that a value of the job file says the place of (`env:NAME`, `file:PATH`); any other value is itself.
///
/// # Errors
/// What is wrong with the place, to follow the option's name in a sentence; never the secret.
pub(super) fn look_up(value: &str) -> Result<String, String> {
    if let Some(variable) = value.strip_prefix("env:") {
        std::env::var(variable).map_err(|_| format!("is to be taken from \"{variable}\", which is not set in the environment"))
    } else if let Some(path) = value.strip_prefix("file:") {
        let text = std::fs::read_to_string(path).map_err(|error| format!("could not be read from \"{path}\": {error}"))?;
        // Editors and `echo` end files with a line feed that is not part of the secret.
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    } else {
        Ok(value.to_owned())
    }
}
