//! Serves the tiny random model with a small handbook: what the page's browser test talks to.
//!
//! Prints its address. Lines on stdin change the state: `behind DONE TOTAL TEXT`, `idle`, `report FILE`, `lock` (from here on
//! a key is asked for, which is printed), `unlock`; the end of stdin stops the server.

mod handbook;

use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::Arc;

use handbook::Handbook;
use hearth_engine::{Engine, EngineConfig};
use hearth_kernels::pool::Pool;
use hearth_model::Model;
use hearth_serve::{Assistant, Behind, Ledger, Limits, Server, State};
use hearth_testkit::{Scratch, TINY, TinyModel};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Scratch::new("tiny-server")?;
    // Long enough that an answer can be stopped by hand.
    TinyModel { max_seq_len: 1 << 16, ..TINY }.write(&folder)?;
    let pool = Arc::new(Pool::new(1));
    let model = Arc::new(Model::open(&folder, &pool)?);
    let config = EngineConfig {
        max_batch: 4,
        prefill_chunk: 256,
        prefix_cache_bytes: 1 << 24,
        ..EngineConfig::new(1 << 16)
    };
    let engine = Arc::new(Engine::start(model, pool, config));
    let state = Arc::new(State::new(engine, Assistant { max_tokens: 60_000, ..Assistant::base("tiny") }, 1));
    state.register(Assistant {
        description: "Answers from the kiln's handbook".into(),
        grounding: Some(Arc::new(Handbook)),
        max_tokens: 160,
        ..Assistant::base("tiny-handbook")
    });
    state.set_default("tiny-handbook")?;
    state.set_passages(Arc::new(Handbook));
    let ledger = Arc::new(Ledger::open(&folder.join("hearth.db"))?);
    state.set_ledger(Arc::clone(&ledger));
    let running = Server::bind(([127, 0, 0, 1], 0).into())?.start(Arc::clone(&state))?;
    writeln!(std::io::stdout(), "{}", running.url())?;
    for line in std::io::stdin().lock().lines() {
        command(&state, &ledger, &line?)?;
    }
    Ok(running.stop()?)
}

fn command(state: &State, ledger: &Ledger, line: &str) -> Result<(), Box<dyn Error>> {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().ok_or("a word is missing");
    match word()? {
        "behind" => {
            let (done, total) = (word()?.parse()?, word()?.parse()?);
            state.set_behind(Some(Behind { stage: "comparison".into(), text: word()?.into(), done, total }));
        }
        "idle" => state.set_behind(None),
        "lock" => {
            let (_, secret) = ledger.create_key("page", Limits::default())?;
            writeln!(std::io::stdout(), "{secret}")?;
        }
        "unlock" => drop(ledger.revoke("page")?),
        "report" => state.set_report(word()?.into()),
        other => return Err(format!("no command is called `{other}`").into()),
    }
    Ok(())
}
