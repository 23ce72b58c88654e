//! Pulls against a hub and a package index on this machine.

#[cfg(test)]
mod folders;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
