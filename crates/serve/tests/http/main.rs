//! The server over real sockets, with a real engine on a tiny random model.

#[cfg(test)]
mod client;
#[cfg(test)]
#[path = "../../examples/tiny_server/handbook.rs"]
mod handbook;
#[cfg(test)]
mod serving;

#[cfg(test)]
mod accounts;
#[cfg(test)]
mod answers;
#[cfg(test)]
mod choices;
#[cfg(test)]
mod dialects;
#[cfg(test)]
mod grounded;
#[cfg(test)]
mod hang_up;
#[cfg(test)]
mod models;
#[cfg(test)]
mod openai;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod scores;
#[cfg(test)]
mod state;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod upstream;
